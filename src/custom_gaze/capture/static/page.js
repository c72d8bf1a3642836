// What the pages share: the token that came behind the address's #, the words in the reader's
// language, and how the server is asked.
import { TEXTS } from "./texts.js";

const token = location.hash.slice(1);
const tab = crypto.randomUUID(); // of this page as it is now: loaded again, it is another
const LANGUAGES = { en: "English", de: "Deutsch" };

// ------------------------------------------------------------------ words

let language = navigator.languages.map((l) => l.slice(0, 2)).find((l) => l in LANGUAGES) ?? "en";

/** The text `key` in the reader's language, {name} replaced by values.name. */
export function say(key, values = {}) {
  const text = TEXTS[key]?.[language];
  if (text === undefined) throw new Error(`no text ${key} in ${language}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** A number as the reader's language writes it. */
export function number(value, digits = 0) {
  return value.toLocaleString(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Put a text into an element such that it changes with the language. */
export function tell(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  const text = say(key, values);
  if (element.textContent !== text) element.textContent = text; // else it would be read out again
}

function fill() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) {
    tell(element, element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  document.title = document.querySelector("h1")?.textContent ?? "custom-gaze";
}

/** Fill the page with words, and let `button` change their language; `changed` is called then. */
export function speak(button, changed = () => {}) {
  const other = () => (language === "en" ? "de" : "en");
  const show = () => {
    fill();
    button.textContent = LANGUAGES[other()];
    button.lang = other();
  };
  button.addEventListener("click", () => {
    language = other();
    show();
    changed();
  });
  show();
}

// ------------------------------------------------------------------ the server

/** What the server refused; `status` is 0 where nobody answered: the command has ended. */
export class Refused extends Error {
  constructor(message, status, answer) {
    super(message);
    this.status = status;
    this.answer = answer;
  }
}

/** Ask /api/`path`; with a `body` (an object, or a Blob) it is a POST. Returns what it answers. */
export async function ask(path, body, { keepalive = false } = {}) {
  const headers = { "x-custom-gaze-token": token, "x-custom-gaze-tab": tab };
  const init = { headers, keepalive, cache: "no-store" };
  if (body !== undefined) {
    init.method = "POST";
    init.body = body instanceof Blob ? body : JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, init);
  } catch {
    throw new Refused("", 0, {});
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.error ?? response.statusText, response.status, answer);
  return answer;
}

/** End the command that serves this page. */
export const end = () => ask("end", {});

/** The element with an id. */
export const element = (id) => document.getElementById(id);

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
