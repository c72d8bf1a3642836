"""The demo world: simulated persons before a webcam, with their gaze known exactly.

A photograph everyone has (the NASA portrait in scikit-image) lends its face; the eyes are drawn.

- `seeds`: which person seeds serve which purpose, and the random streams drawn from them
- `person`, `conditions`: who is sitting there, and how: drawn from seeds
- `portrait`, `head`, `skin`: the photograph, the head's relief, the photograph as the person's face
- `eyes`, `eyeball`, `lids`, `glasses`, `room`: what is drawn
- `render`, `camera`: one image of a person with a given gaze and head pose, as a webcam gives it
- `session`, `sheet`: a calibration session in the app's format, and a picture of it

Angles are the product's: yaw right positive, pitch down positive, in degrees, in the frame as the
network sees it. The app's mirror mode is on, so a user who looks at the right part of the screen
has eyes that are turned to the right of the image. Axes: x to the right of the image, y down,
z out of the face towards the camera; lengths on the head in millimetres, from the middle between
the eyes.
"""
