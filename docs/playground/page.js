// The page *Playground*: a figure to click, a form for plans, and exercises. All that is said comes from Python.
import chainView from "./chain_view.js";

const VERBS = ["commit", "pull", "remove", "shorten", "overlay"];
const root = document.getElementById("vmsnap-playground");
const language = new URLSearchParams(location.search).get("lang") ?? document.documentElement.lang;

// -- asking ------------------------------------------------------------------------------------------------

let worker;
const waiting = new Map();

function ask(call, given = {}) {
  const id = waiting.size ? Math.max(...waiting.keys()) + 1 : 1;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, call, given });
  });
}

function answered({ data: { id, answer, error } }) {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(Object.assign(new Error(error.text), { html: error.html }));
  else resolve(answer);
}

// -- elements ----------------------------------------------------------------------------------------------

function el(name, properties = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

let count = 0;
function labelled(text, control) {
  control.id ||= `playground-${++count}`;
  return el("div", { className: "field" }, el("label", { htmlFor: control.id, textContent: text }), control);
}

function section(title, ...inside) {
  const heading = el("h2", { textContent: title, id: `playground-${++count}` });
  return el("section", { "aria-labelledby": heading.id }, heading, ...inside);
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value, textContent: text })));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

// -- the figure: what a notebook's widget gets from its kernel, it gets from here ---------------------------------

class Figure {
  #values;
  #heard = new Map();

  constructor(values) {
    this.#values = values;
  }

  get(name) { return this.#values[name]; }
  set(name, value) {
    this.#values[name] = value;
    this.tell(`change:${name}`);
  }

  save_changes() {}
  on(name, act) { this.#heard.set(name, [...(this.#heard.get(name) ?? []), act]); }
  off(name, act) { this.#heard.set(name, (this.#heard.get(name) ?? []).filter((one) => one !== act)); }
  tell(name, value) { for (const act of this.#heard.get(name) ?? []) act(value); }

  async send({ source, question }) {
    this.tell("msg:custom", { question, verdicts: await ask("judge", { source }) });
  }
}

// -- the page ----------------------------------------------------------------------------------------------

function build({ language: spokenIn, words, figure: spoken, scope, scenes, exercises }) {
  root.lang = spokenIn;
  const told = el("p", { className: "told", role: "status" });

  async function busy(work) {
    told.textContent = words.working;
    try {
      return await work();
    } catch (error) {
      if (!error.html) console.error(error);
      result.innerHTML = `<div class="wrong">${error.html ?? ""}</div>`;
      if (!error.html) result.firstChild.textContent = error.message;
    } finally {
      told.textContent = "";
    }
  }

  // Images
  const scene = el("select");
  const about = el("p", { className: "about" });
  const files = el("input", { type: "file", multiple: true });
  const stage = el("div");
  const findings = el("div", { className: "findings" });
  const OWN = "own";
  fill(scene, scenes.map(({ name, title }) => [name, title]));
  const figure = new Figure({
    words: spoken, scope, svg: "", text: "", summary: "", boxes: {}, switch: "", selected: null, proposed: [],
    can_propose: true, views: 0, look: 0, progress: null, least: 0, is_narrow: false,
  });
  let drawn = null; // what the figure shows, for wide and for narrow pages

  function draw() {
    if (!drawn) return;
    const { boxes, svg } = figure.get("is_narrow") ? drawn.narrow : drawn;
    figure.set("least", drawn.least);
    figure.set("boxes", boxes);
    figure.set("svg", svg); // the last one: with it all is drawn
  }

  figure.on("change:is_narrow", draw);

  function show(found) {
    const kept = image.value;
    for (const name of ["text", "summary", "switch", "selected"]) figure.set(name, found[name] ?? null);
    drawn = found;
    draw();
    findings.replaceChildren(...(found.findings
      ? [el("details", {}, el("summary", { textContent: words.findings }), el("div", { innerHTML: found.findings }))]
      : []));
    const all = found.images.map(({ path, name }) => [path, name]);
    const based = found.images.filter(({ based }) => based).map(({ path, name }) => [path, name]);
    images = { all, based };
    fill(base, [["", words.next_below], ...all]);
    fit(kept);
    result.replaceChildren();
  }

  async function openScene(name) {
    scene.value = name;
    about.innerHTML = scenes.find((one) => one.name === name)?.about ?? "";
    const found = await busy(() => ask("scene", { name }));
    if (found) show(found);
  }

  async function openFiles(chosen) {
    if (!chosen.length) return;
    const found = await busy(() => ask("drop", { files: [...chosen] }));
    if (!found) return;
    if (!scene.querySelector(`[value=${OWN}]`)) scene.append(el("option", { value: OWN, textContent: words.own }));
    scene.value = OWN;
    about.textContent = "";
    show(found);
  }

  scene.addEventListener("change", () => (scene.value === OWN ? openFiles(files.files) : openScene(scene.value)));
  files.addEventListener("change", () => openFiles(files.files));
  const area = section(
    words.images,
    el("div", { className: "row" }, labelled(words.scene, scene), labelled(words.choose, files)),
    el("p", { className: "drop", textContent: words.drop }),
    about,
    stage,
    el("p", { className: "about", textContent: words.hint_drag }),
    findings,
  );
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    openFiles(event.dataTransfer.files);
  });

  // Plan
  let images = { all: [], based: [] };
  const image = el("select");
  const base = el("select");
  const keep = el("input", { type: "number", min: "1", max: "200", value: "2" });
  const name = el("input", { type: "text", value: "new", autocomplete: "off", spellcheck: false });
  const verbs = VERBS.map((verb) => el("input", { type: "radio", name: "playground-verb", value: verb, checked: verb === "commit" }));
  const verb = () => verbs.find((one) => one.checked).value;
  const fields = { base: labelled(words.base, base), keep: labelled(words.keep, keep), name: labelled(words.name, name) };
  const result = el("div", { className: "result", tabIndex: -1 });
  const planButton = el("button", { type: "submit", className: "first", textContent: words.make_plan });
  const mapButton = el("button", { type: "button", textContent: words.block_map });

  function fit(chosen = image.value) {
    const which = verb();
    const options = which === "overlay" ? images.all : images.based;
    fill(image, options, chosen);
    if (image.value !== chosen && options.length) image.value = options.at(-1)[0];
    fields.base.hidden = !["commit", "pull"].includes(which);
    fields.keep.hidden = which !== "shorten";
    fields.name.hidden = which !== "overlay";
    planButton.disabled = mapButton.disabled = !options.length;
  }

  function choose(wanted) {
    verbs.find((one) => one.value === wanted.verb).checked = true;
    fit(wanted.image);
    base.value = wanted.base;
  }

  async function plan() {
    const given = { verb: verb(), image: image.value };
    if (!fields.base.hidden) given.base = base.value;
    if (!fields.keep.hidden) given.keep = Number(keep.value);
    if (!fields.name.hidden) given.name = name.value;
    const found = await busy(() => ask("plan", given));
    if (found) {
      result.replaceChildren(
        el("h3", { textContent: found.title }),
        el("div", { innerHTML: found.html }),
        ...code(words.python, found.code),
        ...(found.commands ? code(words.commands, found.commands) : []),
        ...(found.refused ? [] : [el("p", { className: "about", textContent: words.no_run })]),
      );
    }
    result.scrollIntoView({ block: "nearest" });
  }

  function code(title, text) {
    const copy = el("button", { type: "button", className: "copy", textContent: words.copy });
    copy.setAttribute("aria-label", `${words.copy}: ${title}`);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      told.textContent = words.copied;
    });
    return [el("div", { className: "code-title" }, el("strong", { textContent: title }), copy), el("pre", { className: "lines", textContent: text, tabIndex: 0 })];
  }

  const form = el(
    "form",
    {},
    el("fieldset", {}, el("legend", { textContent: words.verb }), ...verbs.map((one) => el("label", {}, one, words[one.value]))),
    el("div", { className: "row" }, labelled(words.image, image), ...Object.values(fields)),
    el("div", { className: "row" }, planButton, mapButton),
  );
  form.addEventListener("change", (event) => verbs.includes(event.target) && fit());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    plan();
  });
  mapButton.addEventListener("click", async () => {
    const html = await busy(() => ask("map", { image: image.value }));
    if (html) result.replaceChildren(el("div", { innerHTML: html }));
  });
  figure.on("change:selected", () => figure.get("selected") && fit(figure.get("selected")));
  figure.on("change:proposed", async () => {
    const [source, target] = figure.get("proposed");
    const meant = await ask("drag", { source, target });
    if (!meant) {
      result.replaceChildren(el("div", { className: "wrong", textContent: words.unrelated }));
      return;
    }
    choose(meant);
    await plan();
  });

  // Exercises
  const chosen = el("select");
  const exercise = el("div", { className: "exercise" });
  chosen.append(
    el("option", { value: "", textContent: words.none }),
    ...exercises.map((group) => el("optgroup", { label: group.title },
      ...group.exercises.map((one) => el("option", { value: one.name, textContent: one.title })))),
  );
  chosen.addEventListener("change", () => openExercise(chosen.value));

  async function openExercise(which) {
    exercise.replaceChildren();
    if (!which) return;
    const found = await busy(() => ask("exercise", { name: which }));
    if (found.scene) await openScene(found.scene);
    const questions = (found.questions ?? []).map(question);
    const text = el("input", { type: "text", autocomplete: "off", spellcheck: false, placeholder: words.names });
    const outcome = el("div", { role: "status" });
    const answers = () => (found.questions ? questions.map((one) => one.answer()) : [text.value]);
    const asked = el(
      "form",
      {},
      el("div", { innerHTML: found.html }),
      ...(found.questions ? questions.map((one) => one.element) : [labelled(words.answer, text)]),
      el("div", { className: "row" }, el("button", { type: "submit", className: "first", textContent: words.check })),
      ...(found.hint ? [el("details", {}, el("summary", { textContent: words.hint }), el("p", { innerHTML: found.hint }))] : []),
      outcome,
    );
    asked.addEventListener("submit", async (event) => {
      event.preventDefault();
      outcome.innerHTML = (await busy(() => ask("check", { name: which, answers: answers() }))) ?? "";
    });
    exercise.replaceChildren(asked);
  }

  function question({ html, options }) {
    const group = `playground-question-${++count}`;
    const radios = options.map((_, index) => el("input", { type: "radio", name: group, value: String(index) }));
    const labels = options.map((option, index) => el("label", {}, radios[index], el("span", { innerHTML: option })));
    return {
      element: el("fieldset", { className: "question" }, el("legend", { innerHTML: html }), ...labels),
      answer: () => {
        const found = radios.findIndex((one) => one.checked);
        return found < 0 ? null : found;
      },
    };
  }

  root.replaceChildren(told, area, section(words.plan, form, result), section(words.exercises, labelled(words.exercise, chosen), exercise));
  root.classList.add("running");
  chainView.render({ model: figure, el: stage });
  return openScene(scenes[0].name);
}

async function start(button) {
  const told = root.querySelector("[role=status]");
  button.disabled = true;
  told.textContent = root.dataset.loading;
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", answered);
  worker.addEventListener("error", () => (told.textContent = root.dataset.failed));
  try {
    await build(await ask("begin", { language }));
    document.querySelector(".playground-picture")?.remove();
  } catch (error) {
    console.error(error);
    told.textContent = `${root.dataset.failed} ${error.message}`;
    button.disabled = false;
  }
}

root.querySelector(".needs").remove(); // a page that is no server's does not come as far as this
const button = root.querySelector("button");
button.hidden = false;
button.addEventListener("click", () => start(button));
if (location.hash === "#start") button.click();
