// A slider over moments: one stop for each snapshot, oldest first, and the last stop is now.

const MOST_NAMES = 8; // of more stops only the ends and the chosen one are named
const NEAR = 0.3; // of the slider: an end that the chosen stop is as near to is not named beside it
const MOST_LETTERS = 24; // of a name where few are named: its tooltip has all

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function clip(text) {
  const letters = [...text];
  return letters.length > MOST_LETTERS ? `${letters.slice(0, MOST_LETTERS - 1).join("")}…` : text;
}

function render({ model, el }) {
  const words = model.get("words");
  const root = element("div", "vmsnap-slider");
  const slider = element("input");
  const marks = element("div", "vmsnap-stops");
  slider.type = "range";
  slider.min = "0";
  slider.setAttribute("aria-label", words.label);
  marks.setAttribute("aria-hidden", "true"); // the slider says it
  root.append(slider, marks);
  el.append(root);
  let stops = [];

  function draw() {
    const now = { key: null, title: words.now, sign: "◉", meaning: "", when: "" };
    stops = [...model.get("stops"), now];
    root.hidden = stops.length === 1;
    slider.max = String(stops.length - 1);
    root.style.setProperty("--vmsnap-stops", String(stops.length));
    marks.replaceChildren(...stops.map((stop, number) => {
      const made = element("span", "vmsnap-stop");
      made.append(element("span", "vmsnap-stop-sign", stop.sign), element("span", "vmsnap-stop-name", stop.title));
      made.title = [stop.title, stop.meaning, time(stop)].filter(Boolean).join("\n");
      made.addEventListener("click", () => choose(number));
      return made;
    }));
    mark();
  }

  function time(stop) {
    return stop.when ? new Date(stop.when).toLocaleString(words.language, { dateStyle: "short", timeStyle: "short" }) : "";
  }

  function mark() {
    const key = model.get("value");
    const chosen = Math.max(stops.findIndex((stop) => stop.key === key), 0);
    slider.value = String(chosen);
    const { title, meaning } = stops[chosen];
    slider.setAttribute("aria-valuetext", [title, meaning, time(stops[chosen])].filter(Boolean).join(", "));
    const many = stops.length > MOST_NAMES;
    marks.classList.toggle("vmsnap-stops-many", many);
    [...marks.children].forEach((made, number) => {
      const ends = (number === 0 || number === stops.length - 1) && Math.abs(number - chosen) > NEAR * stops.length;
      made.classList.toggle("vmsnap-stop-left", number < stops.length / 2);
      made.classList.toggle("vmsnap-stop-right", number >= stops.length / 2);
      made.lastChild.textContent = many ? clip(stops[number].title) : stops[number].title;
      made.classList.toggle("vmsnap-stop-chosen", number === chosen);
      made.classList.toggle("vmsnap-stop-named", !many || ends || number === chosen);
      made.classList.toggle("vmsnap-stop-later", number > chosen);
    });
  }

  function choose(number) {
    model.set("value", stops[number].key);
    model.save_changes();
    mark();
  }

  slider.addEventListener("input", () => choose(Number(slider.value)));
  // Arrows mean something else to a notebook, and Notebook 7 takes keys before they get here.
  slider.addEventListener("keydown", (event) => event.stopPropagation());
  slider.setAttribute("data-lm-suppress-shortcuts", "true");
  model.on("change:stops", draw);
  model.on("change:value", mark);
  draw();
  return () => {
    model.off("change:stops", draw);
    model.off("change:value", mark);
  };
}

export default { render };
