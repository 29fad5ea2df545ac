// One question opened: its text, the context's excerpt, and what one or two settings made of it.

const dialog = document.getElementById("sample");
const body = document.getElementById("sample-body");
let opened = { row: [], position: null };

// row: one or two samples of one question; position: its place in the list, null for none.
async function openSample(row, position) {
  opened = { row, position };
  const question = samples.question[row[0]];
  const title = document.getElementById("sample-title");
  title.replaceChildren();
  put(title, questions.id[question]);
  step("back", position === null ? -1 : position - 1);
  step("on", position === null ? -1 : position + 1);
  body.replaceChildren(el("p", { class: "quiet" }, "reading …"));
  if (!dialog.open) dialog.showModal();
  history.replaceState(null, "", `#sample=${row.join(",")}`);
  try {
    const asked = await questionOf(question);
    const cards = await Promise.all(row.map(async (sample) => card(sample, await sampleOf(sample), asked)));
    if (opened.row !== row) return;
    const compared = el("div", { class: row.length > 1 ? "cards two" : "cards" }, ...cards);
    body.replaceChildren(questionPart(question, asked), compared, otherAnswers(question, row));
  } catch (error) {
    if (opened.row === row) body.replaceChildren(el("p", { class: "note", role: "alert" }, error.message));
  }
  dialog.scrollTop = 0;
  title.focus();
}

function step(name, target) {
  const control = dialog.querySelector(`button[name="${name}"]`);
  control.disabled = target < 0 || target >= found.length;
  control.onclick = () => openSample(found[target], target);
}

function questionPart(number, asked) {
  const facts = [
    ["category", index.categories[questions.category[number]]],
    ["source", index.sources[questions.source[number]]],
    ["seed", String(questions.seed[number])],
    ...asked.facts.map(([name, value]) => [name.replaceAll("_", " "), String(value)]),
  ];
  return el(
    "section",
    { class: "asked" },
    el("h3", {}, "Question"),
    asked.stored ? segmentBox(asked.prompt, "question") : notStored(),
    el("h3", {}, "Accepted answers"),
    el("ul", { class: "targets" }, ...asked.targets.map((target) => el("li", {}, textBox(target, "accepted answer")))),
    el("h3", {}, "Context"),
    ...(asked.stored ? excerptPart(asked.excerpt) : [notStored()]),
    factList(facts),
  );
}

const notStored = () => el("p", { class: "quiet" }, "not stored by this run");

function excerptPart(spans) {
  const box = el("div", { class: "text", dir: "auto", tabindex: "0", role: "group", "aria-label": "excerpt of the context" });
  for (const { mark, cut, text } of spans) {
    if (cut) box.append(cutNote(cut));
    if (mark) box.append(put(el("mark", { class: mark === 1 ? "evidence" : "answer" }), text));
    else put(box, text);
  }
  const told = spans.some(({ mark }) => mark === 1)
    ? "Marked: the evidence."
    : spans.some(({ mark }) => mark === 2)
      ? "The evidence is not known or not found; marked: where an accepted answer's words stand."
      : "Neither evidence nor an accepted answer's words were found; the start of the context.";
  return [box, el("p", { class: "quiet" }, told)];
}

function card(sample, stored, asked) {
  const setting = samples.setting[sample];
  const shown =
    stored.shown === undefined
      ? notStored()
      : stored.shown === null
        ? el("p", { class: "quiet" }, "no text of the context")
        : segmentBox(stored.shown, "context in the prompt", asked.evidence);
  return el(
    "section",
    { class: "card", "aria-label": visible(wholeName(setting)) },
    el("h3", {}, visible(wholeName(setting)), " ", badge(sample)),
    stored.error === null ? null : el("div", { class: "note" }, textBox(stored.error, "error")),
    el("h4", {}, "Answer"),
    textBox(stored.answer, "answer"),
    el("h4", {}, "Context in the prompt"),
    shown,
    el("h4", {}, "Score and cost"),
    factList(costs(stored)),
    fold("metrics", factList(stored.metrics.map(([name, value]) => [name.replaceAll("_", " "), String(value ?? "–")]))),
    fold("setting", factList(index.settings[setting][4])),
  );
}

function costs(stored) {
  const held = stored.memory.reduce((sum, [, bytes]) => sum + bytes, 0);
  const kinds = stored.memory.filter(([, bytes]) => bytes > 0).map(([name, bytes]) => `${name} ${bytesText(bytes)}`);
  const share = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);
  return [
    ["evidence in the prompt", share(stored.evidence)],
    ["accepted answer in the prompt", stored.gold === null ? "–" : stored.gold ? "yes" : "no"],
    ["prompt", `${count(stored.promptTokens)} tokens, ${count(stored.contextTokens)} of context`],
    ["answer", `${count(stored.newTokens)} tokens, ${secondsText(stored.answerSeconds)}`],
    ["writing the context", secondsText(stored.writeSeconds)],
    ["memory of the context", bytesText(held) + (kinds.length > 1 ? ` (${kinds.join(", ")})` : "")],
  ];
}

function bytesText(bytes) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (bytes < 1024) return `${unit === "B" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} GiB`;
}

function secondsText(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${(1000 * seconds).toFixed(1)} ms` : `${seconds.toFixed(1)} s`;
}

function factList(facts) {
  const entry = ([name, text]) => el("div", {}, el("dt", {}, visible(name)), el("dd", {}, visible(text)));
  return el("dl", { class: "facts" }, ...facts.map(entry));
}

function fold(title, content) {
  return el("details", {}, el("summary", {}, title), content);
}

// Every setting's answer to a question, read when it is unfolded; each can be put beside the first.
function otherAnswers(question, row) {
  const table = el("tbody");
  const every = el(
    "details",
    { class: "others" },
    el("summary", {}, "every setting's answer to this question"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "answers of every setting" },
      el("table", {}, el("thead", {}, el("tr", {}, ...["setting", "score", "answer", ""].map((head) => el("th", { scope: "col" }, head)))), table)),
  );
  every.addEventListener("toggle", () => {
    if (!every.open || table.rows.length) return;
    for (let at = 0; at < samples.total; at += 1) {
      if (samples.question[at] !== question) continue;
      const name = visible(wholeName(samples.setting[at]));
      const beside = button("beside", () => openSample([row[0], at], opened.position), { "aria-label": `${name} beside` });
      beside.disabled = row.includes(at);
      table.append(el("tr", {}, el("td", {}, name), el("td", {}, badge(at)), answerCell(at), el("td", {}, beside)));
    }
  });
  return every;
}

dialog.querySelector('button[name="close"]').addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  if (opened.position !== null) focusRow(opened.position);
});
dialog.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, .scroll, .text") || event.altKey || event.ctrlKey || event.metaKey) return;
  const name = { ArrowLeft: "back", ArrowRight: "on" }[event.key];
  if (name) dialog.querySelector(`button[name="${name}"]`).click();
});

// A modal dialog prints one sheet at most: what is open is printed from a copy in the page's flow.
addEventListener("beforeprint", () => {
  if (!dialog.open) return;
  const copy = el("div", { id: "printed" }, el("h2", {}, document.getElementById("sample-title").textContent));
  copy.append(...[...body.children].map((part) => part.cloneNode(true)));
  document.body.append(copy);
});
addEventListener("afterprint", () => document.getElementById("printed")?.remove());

// `#sample=3,8` opens samples, as the address does while they are open.
function openFromAddress() {
  const row = (location.hash.match(/^#sample=(\d+(?:,\d+)?)$/)?.[1] ?? "").split(",").filter(Boolean).map(Number);
  const same = row.every((at) => at < samples.total && samples.question[at] === samples.question[row[0]]);
  if (row.length && same) openSample(row, null);
}
