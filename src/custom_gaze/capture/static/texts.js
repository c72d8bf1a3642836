// Every word of the pages, in English and in German: each key once, {name} is filled in.
export const TEXTS = {
};
