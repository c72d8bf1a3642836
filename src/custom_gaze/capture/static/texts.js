// Every word of the pages, in English and in German: each key once, {name} is filled in.
export const TEXTS = {
  "capture.title": {
    en: "Capture a calibration session",
    de: "Eine Kalibriersitzung aufnehmen",
  },
  "capture.session": {
    en: "Session {session}",
    de: "Sitzung {session}",
  },
  "page.ended": {
    en: "The command has ended. You can close this page.",
    de: "Der Befehl ist beendet. Diese Seite kann geschlossen werden.",
  },
  "failed": {
    en: "That did not work: {detail}",
    de: "Das ging nicht: {detail}",
  },
  "elsewhere.title": {
    en: "This capture is open in another tab",
    de: "Diese Aufnahme ist in einem anderen Tab offen",
  },
  "elsewhere.text": {
    en: "One tab captures at a time. What was captured there is kept.",
    de: "Nur ein Tab nimmt auf. Was dort aufgenommen wurde, bleibt erhalten.",
  },
  "elsewhere.here": {
    en: "Go on here",
    de: "Hier weitermachen",
  },
  "camera.title": {
    en: "Camera",
    de: "Kamera",
  },
  "camera.choose": {
    en: "Which camera",
    de: "Welche Kamera",
  },
  "camera.unnamed": {
    en: "Camera {number}",
    de: "Kamera {number}",
  },
  "camera.again": {
    en: "Try again",
    de: "Noch einmal versuchen",
  },
  "camera.refused": {
    en: "The browser does not let this page use the camera. Allow it behind the symbol beside the address (on macOS also in System Settings, Privacy), then try again. The picture does not leave this machine.",
    de: "Der Browser lässt diese Seite nicht an die Kamera. Erlaube es über das Symbol neben der Adresse (unter macOS auch in den Systemeinstellungen, Datenschutz) und versuche es noch einmal. Das Bild verlässt diesen Rechner nicht.",
  },
  "camera.none": {
    en: "No camera was found. Plug one in, then try again.",
    de: "Es wurde keine Kamera gefunden. Schließe eine an und versuche es noch einmal.",
  },
  "camera.busy": {
    en: "The camera is there and gives no picture; another program may be using it. Close that, then try again.",
    de: "Die Kamera ist da, liefert aber kein Bild; vielleicht benutzt sie ein anderes Programm. Beende das und versuche es noch einmal.",
  },
  "camera.insecure": {
    en: "This browser gives cameras only to pages of this machine: open the address as the command printed it.",
    de: "Dieser Browser gibt Kameras nur an Seiten dieses Rechners: Öffne die Adresse so, wie der Befehl sie ausgegeben hat.",
  },
  "camera.unplugged": {
    en: "The camera delivers no picture any more; was it unplugged? Plug it in, then try again. What was captured is kept.",
    de: "Die Kamera liefert kein Bild mehr; wurde sie abgezogen? Schließe sie an und versuche es noch einmal. Was aufgenommen wurde, bleibt erhalten.",
  },
  "camera.other": {
    en: "The camera cannot be used: {detail}",
    de: "Die Kamera ist nicht zu benutzen: {detail}",
  },
  "checks.label": {
    en: "Quality of the picture",
    de: "Qualität des Bildes",
  },
  "verdict.wait": {
    en: "Waiting for the camera …",
    de: "Warten auf die Kamera …",
  },
  "verdict.good": {
    en: "All is well: this picture is good to calibrate with.",
    de: "Alles gut: Mit diesem Bild lässt sich kalibrieren.",
  },
  "check.face": {
    en: "Face",
    de: "Gesicht",
  },
  "check.size": {
    en: "Size",
    de: "Größe",
  },
  "check.light": {
    en: "Light",
    de: "Licht",
  },
  "check.eyes": {
    en: "Eyes",
    de: "Augen",
  },
  "check.middle": {
    en: "Place",
    de: "Lage",
  },
  "face.good": {
    en: "One face found",
    de: "Ein Gesicht gefunden",
  },
  "face.none": {
    en: "No face found: look into the camera",
    de: "Kein Gesicht gefunden: Blicke in die Kamera",
  },
  "face.several": {
    en: "Several faces: only one person may be in the picture",
    de: "Mehrere Gesichter: Nur eine Person darf im Bild sein",
  },
  "size.good": {
    en: "Large enough, {px} pixels",
    de: "Groß genug, {px} Pixel",
  },
  "size.bad": {
    en: "Small, {px} pixels: come nearer",
    de: "Klein, {px} Pixel: Rücke näher",
  },
  "light.good": {
    en: "Well lit",
    de: "Gut beleuchtet",
  },
  "light.dark": {
    en: "Dark: bring light to your face",
    de: "Dunkel: Bringe Licht ins Gesicht",
  },
  "light.bright": {
    en: "Too bright: less light on your face",
    de: "Zu hell: Weniger Licht ins Gesicht",
  },
  "light.side": {
    en: "Lit from one side: turn towards the light",
    de: "Licht von einer Seite: Drehe dich zum Licht",
  },
  "eyes.good": {
    en: "Eyes open",
    de: "Augen offen",
  },
  "eyes.bad": {
    en: "Eyes closed or not to be seen",
    de: "Augen geschlossen oder nicht zu sehen",
  },
  "middle.good": {
    en: "In the middle",
    de: "In der Mitte",
  },
  "middle.bad": {
    en: "Off the middle: the whole head has to be in the picture",
    de: "Neben der Mitte: Der ganze Kopf muss im Bild sein",
  },
  "screen.title": {
    en: "Screen",
    de: "Bildschirm",
  },
  "screen.why": {
    en: "What a pixel is in degrees follows from how wide the screen is and how far away you sit.",
    de: "Wie viel Grad ein Pixel sind, folgt aus der Breite des Bildschirms und deinem Abstand.",
  },
  "screen.how": {
    en: "Width of the screen",
    de: "Breite des Bildschirms",
  },
  "screen.byCard": {
    en: "by a bank card",
    de: "mit einer Bankkarte",
  },
  "screen.byWidth": {
    en: "in centimetres",
    de: "in Zentimetern",
  },
  "screen.card": {
    en: "Hold a bank card to the screen and move the slider until the frame is as large as the card.",
    de: "Halte eine Bankkarte an den Bildschirm und verschiebe den Regler, bis der Rahmen so groß ist wie die Karte.",
  },
  "screen.cardLabel": {
    en: "Size of the card on the screen",
    de: "Größe der Karte auf dem Bildschirm",
  },
  "screen.width": {
    en: "Width in cm",
    de: "Breite in cm",
  },
  "screen.last": {
    en: "As it was the last time.",
    de: "Wie beim letzten Mal.",
  },
  "screen.found": {
    en: "The screen is {cm} cm wide ({inch} inches from corner to corner).",
    de: "Der Bildschirm ist {cm} cm breit ({inch} Zoll von Ecke zu Ecke).",
  },
  "screen.unknown": {
    en: "The width of the screen has to be 5 to 500 cm.",
    de: "Die Breite des Bildschirms muss 5 bis 500 cm sein.",
  },
  "distance.label": {
    en: "From your eyes to the screen, in cm",
    de: "Von den Augen zum Bildschirm, in cm",
  },
  "distance.take": {
    en: "Take it from the face",
    de: "Vom Gesicht übernehmen",
  },
  "distance.found": {
    en: "By the face's size about {cm} cm, for a webcam 64° wide; a tape measure is better.",
    de: "Nach der Größe des Gesichts etwa {cm} cm, bei einer Webcam von 64°; ein Maßband ist besser.",
  },
  "distance.none": {
    en: "The face's size tells the distance as soon as the camera sees your eyes.",
    de: "Sobald die Kamera deine Augen sieht, sagt die Größe des Gesichts den Abstand.",
  },
  "start.title": {
    en: "{targets} targets, frames of each: {each}",
    de: "{targets} Zielpunkte, Bilder von jedem: {each}",
  },
  "start.further": {
    en: "{complete} of {targets} targets are done",
    de: "{complete} von {targets} Zielpunkten sind fertig",
  },
  "start.how": {
    en: "The screen fills up and shows a dot. Look at its middle until the next one comes; move your head as you always do. A blink or a face that is lost does no harm: that dot comes again.",
    de: "Der Bildschirm füllt sich und zeigt einen Punkt. Blicke in seine Mitte, bis der nächste kommt; bewege den Kopf wie immer. Ein Blinzeln oder ein verlorenes Gesicht schadet nicht: Der Punkt kommt wieder.",
  },
  "start.keys": {
    en: "The space bar or Esc pauses at any time.",
    de: "Leertaste oder Esc hält jederzeit an.",
  },
  "start.button": {
    en: "Begin",
    de: "Anfangen",
  },
  "start.goOn": {
    en: "Go on",
    de: "Weitermachen",
  },
  "missing.camera": {
    en: "A camera is missing.",
    de: "Es fehlt eine Kamera.",
  },
  "missing.screen": {
    en: "The screen's width or your distance is missing.",
    de: "Es fehlt die Breite des Bildschirms oder dein Abstand.",
  },
  "round.done": {
    en: "All {targets} targets are done: {frames} frames",
    de: "Alle {targets} Zielpunkte sind fertig: {frames} Bilder",
  },
  "round.why": {
    en: "One more round with your head elsewhere (nearer, further back, to the side, turned a little) helps more than more dots: the model then knows you in other poses too.",
    de: "Noch eine Runde mit dem Kopf an anderer Stelle (näher, weiter hinten, seitlich, etwas gedreht) hilft mehr als mehr Punkte: Das Modell kennt dich dann auch in anderen Haltungen.",
  },
  "round.more": {
    en: "One more round, head moved",
    de: "Noch eine Runde, Kopf bewegt",
  },
  "finish.all": {
    en: "Finish: import the session",
    de: "Fertig: Sitzung importieren",
  },
  "finish.now": {
    en: "Import what there is",
    de: "Importieren, was da ist",
  },
  "clear.button": {
    en: "Throw away what was captured",
    de: "Aufgenommenes wegwerfen",
  },
  "clear.sure": {
    en: "Throw away all frames of this session?",
    de: "Alle Bilder dieser Sitzung wegwerfen?",
  },
  "end.button": {
    en: "End, and go on later",
    de: "Beenden und später weitermachen",
  },
  "importing.title": {
    en: "The session is being imported …",
    de: "Die Sitzung wird importiert …",
  },
  "importing.text": {
    en: "The frames are checked and put under DVC. They stay on this machine.",
    de: "Die Bilder werden geprüft und kommen unter DVC. Sie bleiben auf diesem Rechner.",
  },
  "done.title": {
    en: "Session {session} is there",
    de: "Sitzung {session} ist da",
  },
  "done.text": {
    en: "{frames} usable frames of {targets} targets.",
    de: "{frames} brauchbare Bilder von {targets} Zielpunkten.",
  },
  "done.next": {
    en: "What comes next:",
    de: "Was als Nächstes kommt:",
  },
  "notImported.title": {
    en: "The session could not be imported",
    de: "Die Sitzung konnte nicht importiert werden",
  },
  "notImported.text": {
    en: "{detail}. The frames are kept; the same command goes on.",
    de: "{detail}. Die Bilder bleiben erhalten; derselbe Befehl macht weiter.",
  },
  "ended.title": {
    en: "Until later",
    de: "Bis später",
  },
  "ended.text": {
    en: "What was captured is kept; the same command goes on with it.",
    de: "Was aufgenommen wurde, bleibt erhalten; derselbe Befehl macht damit weiter.",
  },
  "progress.label": {
    en: "Targets done",
    de: "Fertige Zielpunkte",
  },
  "note.closed": {
    en: "Eyes closed: once more",
    de: "Augen zu: noch einmal",
  },
  "note.noFace": {
    en: "No face: once more",
    de: "Kein Gesicht: noch einmal",
  },
  "pause.asked": {
    en: "Paused.",
    de: "Angehalten.",
  },
  "pause.left": {
    en: "Paused: the full screen was left.",
    de: "Angehalten: Das Vollbild wurde verlassen.",
  },
  "pause.hidden": {
    en: "Paused: another window or tab came to the front.",
    de: "Angehalten: Ein anderes Fenster oder ein anderer Tab kam nach vorn.",
  },
  "pause.noFace": {
    en: "Paused: no face was found for two dots. See how you sit in the picture, then go on.",
    de: "Angehalten: Bei zwei Punkten war kein Gesicht zu finden. Sieh nach, wie du im Bild sitzt, dann mach weiter.",
  },
  "pause.several": {
    en: "Paused: there are several faces in the picture. Only one person may be in it.",
    de: "Angehalten: Im Bild sind mehrere Gesichter. Nur eine Person darf darin sein.",
  },
  "pause.still": {
    en: "Paused: the camera gives the same picture again and again. Unplug it and plug it in, or choose another one.",
    de: "Angehalten: Die Kamera liefert immer dasselbe Bild. Ziehe sie ab und schließe sie wieder an, oder wähle eine andere.",
  },
  "pause.noFullScreen": {
    en: "The browser refuses the full screen, which the targets need: allow it, then begin again.",
    de: "Der Browser verweigert das Vollbild, das die Zielpunkte brauchen: Erlaube es und fange noch einmal an.",
  },
  // ---------------------------------------------------------------- live
  "live.title": {
    en: "Your gaze, live",
    de: "Der eigene Blick, live",
  },
  "live.gaze": {
    en: "Where you look",
    de: "Wohin der Blick geht",
  },
  "live.screen.label": {
    en: "The screen with the point you look at",
    de: "Der Bildschirm mit dem Punkt, der angesehen wird",
  },
  "live.camera.label": {
    en: "The camera's picture",
    de: "Das Bild der Kamera",
  },
  "live.camera": {
    en: "Camera",
    de: "Kamera",
  },
  "live.camera.gone": {
    en: "The camera is gone. Connect it again, or choose another one.",
    de: "Die Kamera ist weg. Wieder anschließen oder eine andere wählen.",
  },
  "live.camera.first": {
    en: "First a camera is needed: its picture is missing.",
    de: "Zuerst wird eine Kamera gebraucht: Ihr Bild fehlt.",
  },
  "live.filter": {
    en: "Smoothing",
    de: "Glättung",
  },
  "live.filter.none": {
    en: "none",
    de: "keine",
  },
  "live.filter.euro": {
    en: "one euro filter",
    de: "One-Euro-Filter",
  },
  "live.filter.app": {
    en: "0.4, as the app",
    de: "0,4 wie die App",
  },
  "live.beside": {
    en: "Base and correction beside it",
    de: "Basis und Korrektur daneben",
  },
  "live.heat": {
    en: "Heat map of the last minute",
    de: "Wärmebild der letzten Minute",
  },
  "live.mirror": {
    en: "Mirrored frames, as the app's",
    de: "Gespiegelte Bilder wie in der App",
  },
  "live.full": {
    en: "Full screen",
    de: "Vollbild",
  },
  "live.full.refused": {
    en: "The browser refused the full screen, which the true places need. Allow it and try again.",
    de: "Der Browser hat das Vollbild verweigert; ohne es stimmen die Orte nicht. Bitte erlauben und noch einmal versuchen.",
  },
  "live.hint": {
    en: "Escape leads back",
    de: "Escape führt zurück",
  },
  "live.numbers": {
    en: "{latency} ms from a frame to its dot, {network} ms of them in the networks; {model}",
    de: "{latency} ms vom Bild zum Punkt, davon {network} ms in den Netzen; {model}",
  },
  "live.found": {
    en: "One face; the dot shows its gaze.",
    de: "Ein Gesicht; der Punkt zeigt seinen Blick.",
  },
  "live.why.no_face": {
    en: "No face is found.",
    de: "Kein Gesicht gefunden.",
  },
  "live.why.two_faces": {
    en: "Two faces of like size: whose gaze cannot be told.",
    de: "Zwei ähnlich große Gesichter: Wessen Blick, ist unklar.",
  },
  "live.why.unusable": {
    en: "The face cannot be used; move into the middle.",
    de: "Das Gesicht ist nicht brauchbar; bitte in die Mitte rücken.",
  },
  "live.why.blink": {
    en: "Blinked; once more.",
    de: "Geblinzelt; noch einmal.",
  },
  "live.why.still": {
    en: "The camera shows the same picture again.",
    de: "Die Kamera zeigt noch einmal dasselbe Bild.",
  },
  "live.name.personal": {
    en: "personal model",
    de: "persönliches Modell",
  },
  "live.name.corrected": {
    en: "corrected base",
    de: "korrigierte Basis",
  },
  "live.name.target": {
    en: "target",
    de: "Ziel",
  },
  "live.name.base": {
    en: "base network",
    de: "Basisnetz",
  },
  "live.alone": {
    en: "The model stands alone: {why}",
    de: "Das Modell steht allein da: {why}",
  },
  "live.measure": {
    en: "How good is it today?",
    de: "Wie gut ist es heute?",
  },
  "live.measure.what": {
    en: "Nine targets in full screen, half a minute. Look at each dot until it goes; Escape leaves. Recalibrating makes a session of them and a run over it and the sessions so far, without training.",
    de: "Neun Ziele im Vollbild, eine halbe Minute. Jeden Punkt ansehen, bis er geht; Escape bricht ab. Beim Neukalibrieren werden sie eine Sitzung, und über sie und die bisherigen läuft eine Rechnung ohne Training.",
  },
  "live.validate": {
    en: "Measure",
    de: "Messen",
  },
  "live.recalibrate": {
    en: "Recalibrate in a minute",
    de: "In einer Minute neu kalibrieren",
  },
  "live.own": {
    en: "This screen",
    de: "Dieser Bildschirm",
  },
  "live.width": {
    en: "Width of the screen in cm",
    de: "Breite des Bildschirms in cm",
  },
  "live.distance": {
    en: "From eyes to screen in cm",
    de: "Von den Augen zum Bildschirm in cm",
  },
  "live.own.why": {
    en: "For errors in centimetres, and for a screen that the model was not trained on.",
    de: "Für Fehler in Zentimetern und für einen Bildschirm, auf dem das Modell nicht trainiert wurde.",
  },
  "live.screen.same": {
    en: "The screen is the one that the model was trained on: {width} × {height} pixels, {pixels} pixels a degree.",
    de: "Es ist der Bildschirm, auf dem das Modell trainiert wurde: {width} × {height} Pixel, {pixels} Pixel je Grad.",
  },
  "live.screen.measured": {
    en: "The screen as you measured it: {width} × {height} pixels, {pixels} pixels a degree.",
    de: "Der Bildschirm wie gemessen: {width} × {height} Pixel, {pixels} Pixel je Grad.",
  },
  "live.screen.guessed": {
    en: "A screen of {width} × {height} pixels, which the model was not trained on: say its width and your distance, else degrees are a guess ({pixels} pixels a degree).",
    de: "Ein Bildschirm von {width} × {height} Pixeln, auf dem das Modell nicht trainiert wurde: Ohne Breite und Abstand sind die Grade geraten ({pixels} Pixel je Grad).",
  },
  "live.target": {
    en: "Target {number} of {all}",
    de: "Ziel {number} von {all}",
  },
  "live.left": {
    en: "Left before its end; nothing was kept.",
    de: "Vorzeitig verlassen; nichts wurde behalten.",
  },
  "live.measured": {
    en: "Measured.",
    de: "Gemessen.",
  },
  "live.result": {
    en: "How far the gaze is from the target",
    de: "Wie weit der Blick vom Ziel liegt",
  },
  "live.result.note": {
    en: "Mean of {frames} frames of {targets} targets where no session has any; the interval is over targets (95 %).",
    de: "Mittel aus {frames} Bildern von {targets} Zielen, wo keine Sitzung eines hat; das Intervall gilt über Ziele (95 %).",
  },
  "live.model": {
    en: "Model",
    de: "Modell",
  },
  "live.degrees": {
    en: "Degrees",
    de: "Grad",
  },
  "live.interval": {
    en: "95 %",
    de: "95 %",
  },
  "live.pixels": {
    en: "Pixels",
    de: "Pixel",
  },
  "live.centimetres": {
    en: "cm",
    de: "cm",
  },
  "live.session": {
    en: "Keep it as the session",
    de: "Behalten als Sitzung",
  },
  "live.keep": {
    en: "Keep",
    de: "Behalten",
  },
  "live.keeping": {
    en: "Is being imported …",
    de: "Wird importiert …",
  },
  "live.kept": {
    en: "Kept: {frames} frames as session {session}, imported and under DVC.",
    de: "Behalten: {frames} Bilder als Sitzung {session}, importiert und unter DVC.",
  },
  "live.not_kept": {
    en: "Not kept.",
    de: "Nicht behalten.",
  },
  "live.running": {
    en: "Recalibrating: {step}",
    de: "Wird neu kalibriert: {step}",
  },
  "live.step.import": {
    en: "the session is imported",
    de: "die Sitzung wird importiert",
  },
  "live.step.fetch": {
    en: "networks are brought",
    de: "Netze werden geholt",
  },
  "live.step.prepare": {
    en: "faces are cut out",
    de: "Gesichter werden ausgeschnitten",
  },
  "live.step.index": {
    en: "frames are divided",
    de: "Bilder werden aufgeteilt",
  },
  "live.step.train": {
    en: "the probe is fitted",
    de: "die Sonde wird angepasst",
  },
  "live.step.export": {
    en: "the model is written",
    de: "das Modell wird geschrieben",
  },
  "live.step.quantise": {
    en: "the model in 8 bits",
    de: "das Modell in 8 Bit",
  },
  "live.step.evaluate": {
    en: "it is measured",
    de: "es wird gemessen",
  },
  "live.step.load": {
    en: "the new model is loaded",
    de: "das neue Modell wird geladen",
  },
  "live.failed": {
    en: "Not recalibrated; the page goes on with the model it had.",
    de: "Nicht neu kalibriert; die Seite läuft mit dem bisherigen Modell weiter.",
  },
  "live.recalibrated": {
    en: "Recalibrated in {seconds} s, experiment {experiment}; the dot is the new model's.",
    de: "In {seconds} s neu kalibriert, Experiment {experiment}; der Punkt ist der des neuen Modells.",
  },
  "live.early": {
    en: "The dot is the new model's, after {seconds} s. The run goes on beside it: {step}",
    de: "Der Punkt ist der des neuen Modells, nach {seconds} s. Der Lauf geht daneben weiter: {step}",
  },
  "live.early.note": {
    en: "So far over {frames} frames of {session}, by fits that had not seen their targets; those that the run held out follow.",
    de: "Bisher über {frames} Bilder von {session}, von Anpassungen, die ihre Ziele nicht kannten; die zurückgehaltenen folgen.",
  },
  "live.recalibrated.title": {
    en: "Before and after",
    de: "Vorher und nachher",
  },
  "live.before": {
    en: "before",
    de: "vorher",
  },
  "live.after": {
    en: "after",
    de: "nachher",
  },
  "live.recalibrated.note": {
    en: "Both over the {frames} frames of {session}, neither by a model that knew their targets. Keep it: git add -A && git commit -m {experiment}; measure again to see it on other targets.",
    de: "Beide über die {frames} Bilder von {session}, keines von einem Modell, das ihre Ziele kannte. Behalten: git add -A && git commit -m {experiment}; noch einmal messen zeigt es auf anderen Zielen.",
  },
  "live.refused": {
    en: "Refused: {error}",
    de: "Abgelehnt: {error}",
  },
  "live.end": {
    en: "End the command",
    de: "Befehl beenden",
  },
};
