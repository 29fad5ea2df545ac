// Text that strangers wrote goes into the page through these functions alone, as text nodes.

const CLIP = 2000; // characters of a long text shown before "show all"
const PLAIN = 20000; // characters above which hidden ones are written out without an element each
const LEAST = 3; // characters of a passage worth marking wherever it stands

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function button(text, action, attributes) {
  const node = el("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", action);
  return node;
}

const hidden = new RegExp(
  `[${index.hidden.map(([first, last]) => `\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`).join("")}]+`,
  "gu",
);

function writtenOut(characters) {
  return Array.from(characters, (one) => {
    const code = one.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  }).join("");
}

function visible(text) {
  return text.replace(hidden, writtenOut);
}

// Append text, each run of hidden characters written out in an element of its own.
function put(node, text) {
  if (text.length > PLAIN) {
    node.append(visible(text));
    return node;
  }
  let at = 0;
  for (const match of text.matchAll(hidden)) {
    node.append(text.slice(at, match.index));
    node.append(el("span", { class: "code", title: "characters that cannot be seen" }, writtenOut(match[0])));
    at = match.index + match[0].length;
  }
  node.append(text.slice(at));
  return node;
}

// The first characters of a text, never half of one.
function start(text, length) {
  if (text.length <= length) return text;
  const code = text.charCodeAt(length - 1);
  return text.slice(0, code >= 0xd800 && code < 0xdc00 ? length - 1 : length);
}

// A box with a text of any length: long ones are clipped until asked for.
function textBox(text, name) {
  const box = el("div", { class: "text", dir: "auto", role: "group", "aria-label": name });
  if (text === "") {
    box.append(el("span", { class: "quiet" }, "empty"));
    return box;
  }
  const head = start(text, CLIP);
  put(box, head);
  if (head.length === text.length) return box;
  const more = button(`show all ${count(text.length)} characters`, () => {
    box.replaceChildren();
    box.tabIndex = 0;
    put(box, text);
    box.focus();
  });
  box.append(el("span", { class: "cut" }, `… ${count(text.length - head.length)} more characters `), more);
  return box;
}

// Where passages stand in a text: [start, end] in order, overlaps joined.
function places(text, passages) {
  const found = [];
  for (const passage of passages) {
    if (passage.length < LEAST) continue;
    for (let at = text.indexOf(passage); at >= 0; at = text.indexOf(passage, at + passage.length)) {
      found.push([at, at + passage.length]);
    }
  }
  found.sort((left, right) => left[0] - right[0]);
  const joined = [];
  for (const [first, last] of found) {
    const before = joined.at(-1);
    if (before && first <= before[1]) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}

// Append text with the passages marked.
function putMarked(node, text, passages) {
  let at = 0;
  for (const [first, last] of places(text, passages)) {
    put(node, text.slice(at, first));
    node.append(put(el("mark", { class: "evidence" }), text.slice(first, last)));
    at = last;
  }
  return put(node, text.slice(at));
}

// What of a text was left out when it was stored.
function cutNote(length) {
  return el("span", { class: "cut" }, ` … ${count(length)} characters left out … `);
}

// A box with segments: texts, and numbers of characters left out.
function segmentBox(segments, name, passages = []) {
  const box = el("div", { class: "text", dir: "auto", tabindex: "0", role: "group", "aria-label": name });
  for (const part of segments) {
    if (typeof part === "number") box.append(cutNote(part));
    else putMarked(box, part, passages);
  }
  if (segments.every((part) => part === "")) box.append(el("span", { class: "quiet" }, "empty"));
  return box;
}

function count(number) {
  return number.toLocaleString("en");
}
