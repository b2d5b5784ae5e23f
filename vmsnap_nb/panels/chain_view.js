// The figure of a forest, alive: select by click or Enter; propose a merge by dragging one image onto another, or by
// m on the one and Enter on the other.

const DRAG = 6; // pixels that a pointer may move and still be a click
const ZOOM = 1.25;
const HELD = 0.75; // as large as a box is while it is dragged, so that its target stays readable
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }; // from box to box
const WIDEST_MAP = 1.35; // as large as a block map for narrow columns is drawn, so that it takes the whole width
const SMALLEST = 0.7; // as small as a figure is drawn unasked, so that it fits into its cell

function boxesOf(root) {
  return [...root.querySelectorAll("[data-box]")].filter((box) => box.dataset.path);
}

function places(root) {
  return new Map(boxesOf(root).map((box) => [box.dataset.path, box.getBoundingClientRect()]));
}

// Boxes that were there before move to their new places; new ones fade in.
function animate(root, before) {
  if (before.size === 0 || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const box of boxesOf(root)) {
    const scale = box.ownerSVGElement.getScreenCTM()?.a || 1;
    const now = box.getBoundingClientRect();
    const was = before.get(box.dataset.path);
    const from = was
      ? { transform: `translate(${(was.left - now.left) / scale}px, ${(was.top - now.top) / scale}px)` }
      : { opacity: 0 };
    box.animate([from, was ? { transform: "none" } : { opacity: 1 }], { duration: 450, easing: "ease-in-out" });
  }
  for (const other of root.querySelectorAll("svg > g:not([data-box])")) { // arrows, which have their new places already
    other.animate([{ opacity: 0 }, { opacity: 0, offset: 0.7 }, { opacity: 1 }], { duration: 550 });
  }
}

// Times in UTC become what the reader's clock has. Where a line of the picture ends, it ends as before: the date and the
// hours are as long.
function localTimes(root) {
  for (const text of root.querySelectorAll("text")) {
    const found = /^(\d{4}-\d\d-\d\d) +(\d\d:\d\d) UTC$/.exec(text.textContent.trim());
    if (!found) continue;
    const at = new Date(`${found[1]}T${found[2]}Z`);
    const local = new Date(at - at.getTimezoneOffset() * 60_000).toISOString();
    let rest = `${local.slice(0, 10)} ${local.slice(11, 16)}`;
    for (const part of text.childElementCount ? text.children : [text]) {
      const long = part.textContent.length;
      part.textContent = rest.slice(0, long);
      rest = rest.slice(long);
    }
  }
}

function button(text, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.title = label;
  made.addEventListener("click", act);
  return made;
}

function render({ model, el }) {
  const words = model.get("words");
  const root = document.createElement("div");
  root.className = "vmsnap-chain-view";
  const bar = document.createElement("div");
  bar.className = "vmsnap-zoom";
  const states = document.createElement("div"); // of a plan: the switch between before, change and after
  states.className = "vmsnap-switch";
  root.classList.add(model.get("scope"));
  const stage = document.createElement("div");
  stage.className = "vmsnap-stage";
  stage.tabIndex = 0;
  stage.setAttribute("role", "group");
  const told = document.createElement("p");
  told.className = "vmsnap-told";
  told.setAttribute("role", "status");
  const tip = document.createElement("div"); // at the pointer: what a drop here would do
  tip.className = "vmsnap-tip";
  tip.hidden = true;
  root.append(bar, stage, told, tip);
  el.append(root);
  let zoom = 1;
  let smallest = SMALLEST; // how small the figure is made to fit into the width; null once the user has zoomed
  let width = 0; // of the stage, when the figure was last made to fit
  let held = null; // what the pointer holds: a box to drag, or the stage to pan
  let carried = null; // the path of the image that the keyboard holds

  function resize() {
    const svg = stage.querySelector("svg");
    if (!svg) return;
    Object.assign(svg.style, { minWidth: "0", maxWidth: "none" }); // the zoom decides, not the column
    const [, , wide, high] = svg.getAttribute("viewBox").split(/\s+/).map(Number);
    svg.setAttribute("width", `${wide * zoom}px`);
    svg.setAttribute("height", `${high * zoom}px`);
  }

  function setZoom(value) {
    zoom = Math.min(Math.max(value, 0.05), 6);
    resize();
  }

  function fit() {
    const svg = stage.querySelector("svg");
    const whole = svg && (stage.clientWidth - 8) / svg.viewBox.baseVal.width;
    const isMap = Object.keys(model.get("boxes")).length === 0;
    const most = isMap && model.get("is_narrow") ? WIDEST_MAP : 1;
    if (svg) setZoom(Math.max(smallest, Math.min(most, whole)));
    stage.scrollLeft = stage.scrollWidth; // if it does not fit: its end is where guests write
  }

  // A panel in a tab has no width until the tab is opened, and cells become wider and narrower.
  const widened = new ResizeObserver(() => {
    if (smallest === null || stage.clientWidth === width) return;
    width = stage.clientWidth;
    if (width === 0) return;
    fit();
    narrow();
  });

  // With less room than the figure takes, Python draws it with narrower boxes.
  function narrow() {
    const wanted = stage.clientWidth < model.get("least");
    if (stage.clientWidth === 0 || Boolean(model.get("is_narrow")) === wanted) return;
    model.set("is_narrow", wanted);
    model.save_changes();
  }

  function zoomBy(factor) {
    smallest = null;
    setZoom(zoom * factor);
  }

  bar.append(
    states,
    button("+", words.zoom_in, () => zoomBy(ZOOM)),
    button("−", words.zoom_out, () => zoomBy(1 / ZOOM)),
    button(words.fit, words.fit_title, () => {
      smallest = 0;
      fit();
    }),
  );

  function mark() {
    const selected = model.get("selected");
    for (const box of boxesOf(stage)) {
      const pressed = box.dataset.path === selected;
      box.setAttribute("aria-pressed", String(pressed));
      box.classList.toggle("vmsnap-selected", pressed);
    }
  }

  function draw() {
    const before = places(stage);
    const focused = stage.contains(document.activeElement) ? document.activeElement.dataset?.path : null;
    const svg = model.get("svg");
    if (states.innerHTML !== "" || model.get("switch")) states.innerHTML = model.get("switch"); // our own, as the SVG
    if (svg) {
      stage.innerHTML = svg; // our own SVG: each name in it was escaped when it was made
    } else {
      const text = document.createElement("pre");
      text.textContent = model.get("text");
      stage.replaceChildren(text);
    }
    localTimes(stage);
    stage.setAttribute("aria-label", model.get("summary"));
    const drawn = stage.querySelector("svg");
    drawn?.setAttribute("role", "none"); // the stage is the group, and says what it shows
    drawn?.removeAttribute("aria-label");
    const paths = model.get("boxes");
    bar.hidden = !stage.querySelector("svg rect"); // there is nothing to make larger
    for (const box of stage.querySelectorAll("[data-box]")) {
      const path = paths[box.dataset.box];
      if (!path) continue;
      box.dataset.path = path;
      box.setAttribute("tabindex", "0");
      box.setAttribute("data-lm-suppress-shortcuts", "true"); // of Notebook 7, which takes keys before they get here
      box.setAttribute("role", "button");
      const title = box.querySelector("title");
      const lines = [...box.querySelectorAll("text")].map((line) => line.textContent.trim());
      // Hovered over or read aloud: what stands in the box, also where it is too small to read, then the whole path.
      const said = [...lines, title?.textContent || path].join("\n");
      if (title) title.textContent = said;
      box.setAttribute("aria-label", said);
      if (path === focused) box.focus();
    }
    carry(null);
    if (smallest !== null && stage.clientWidth > 0) fit();
    else resize();
    narrow();
    mark();
    follow();
    animate(stage, before);
  }

  // While a plan runs, a line grows along each arrow of data as far as the job has come.
  function follow() {
    const part = model.get("progress") ?? null;
    root.classList.toggle("vmsnap-running", part !== null);
    for (const arrow of stage.querySelectorAll(".arrow.move")) {
      let line = arrow.querySelector(".vmsnap-come");
      if (part === null) {
        line?.remove();
        continue;
      }
      if (!line) {
        line = arrow.querySelector("path").cloneNode();
        line.setAttribute("class", "vmsnap-come");
        line.setAttribute("pathLength", "1");
        arrow.querySelector("path").after(line);
      }
      line.setAttribute("stroke-dasharray", `${part} 1`);
      line.style.visibility = part > 0 ? "" : "hidden"; // a dash of no length has round ends
    }
  }

  function select(path) {
    model.set("selected", model.get("selected") === path ? null : path);
    model.save_changes();
  }

  function propose(source, target) {
    model.set("proposed", [source, target]);
    model.save_changes();
  }

  // What Python says of each image as a target: what a merge there does, and why it would be refused.
  let asked = 0; // counts the questions: an answer to an earlier one is too late
  const verdicts = new Map();

  function ask(path) {
    asked += 1;
    verdicts.clear();
    if (path) model.send({ source: path, question: asked });
    judge();
  }

  function judge() {
    for (const box of boxesOf(stage)) box.classList.toggle("vmsnap-refused", Boolean(verdicts.get(box.dataset.path)?.[1]));
  }

  function verdict(box) {
    const [does, why] = verdicts.get(box?.dataset.path) ?? ["", ""];
    return why ? words.refused.replace("{why}", () => why) : does;
  }

  function answered({ question, verdicts: found }) {
    if (question !== asked) return;
    for (const [path, ...said] of found) verdicts.set(path, said);
    judge();
    if (held?.over) tip.textContent = verdict(held.over) || words.wait;
    if (carried) tellCarried();
  }

  function tellCarried() {
    const name = carried.split("/").at(-1);
    const at = boxAt(document.activeElement);
    const does = at && at.dataset.path !== carried ? verdict(at) : "";
    told.textContent = [words.carry.replace("{image}", () => name), does].filter(Boolean).join(" ");
  }

  // A pattern for what would be refused: the name of a pattern is one of the whole page.
  function hatch() {
    const name = `vmsnap-hatch-${Math.random().toString(36).slice(2)}`;
    const made = document.createElement("div");
    made.className = "vmsnap-hatch";
    made.innerHTML = `<svg width="0" height="0" aria-hidden="true"><pattern id="${name}" width="8" height="8"
      patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8" class="vmsnap-hatch-paper"/>
      <rect width="3" height="8" class="vmsnap-hatch-line"/></pattern></svg>`;
    root.append(made);
    root.style.setProperty("--vmsnap-hatch", `url(#${name})`);
  }

  function carry(path) {
    if (path !== carried) ask(path);
    carried = path;
    for (const box of boxesOf(stage)) box.classList.toggle("vmsnap-dragged", box.dataset.path === path);
    if (path) tellCarried();
    else told.textContent = "";
  }

  const boxAt = (target) => target?.closest?.("[data-path]") ?? null;

  stage.addEventListener("keydown", (event) => {
    const box = boxAt(event.target);
    if (!box || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    const path = box.dataset.path;
    if (event.key === "m" && model.get("can_propose")) {
      carry(path);
    } else if (event.key === "Escape" && carried) {
      carry(null);
    } else if (event.key === "Enter" || event.key === " ") {
      if (carried && carried !== path) propose(carried, path);
      else select(path);
      carry(null);
    } else if (event.key in STEPS) {
      const boxes = boxesOf(stage);
      boxes[boxes.indexOf(box) + STEPS[event.key]]?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // each of these keys means something else to a notebook
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = boxAt(event.target);
    held = { box, drags: box && model.get("can_propose"), x: event.clientX, y: event.clientY, moved: false,
             left: stage.scrollLeft, top: stage.scrollTop };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    held.moved ||= Math.hypot(dx, dy) > DRAG;
    if (!held.moved) return;
    event.preventDefault();
    if (held.drags) {
      if (!held.began) {
        held.began = true;
        held.box.classList.add("vmsnap-dragged");
        ask(held.box.dataset.path);
      }
      const scale = held.box.ownerSVGElement.getScreenCTM()?.a || 1;
      held.box.style.transform = `translate(${dx / scale}px, ${dy / scale}px) scale(${HELD})`; // it follows the pointer
      held.over = boxAt(document.elementFromPoint(event.clientX, event.clientY)); // what lies below it
      if (held.over === held.box) held.over = null;
      for (const box of boxesOf(stage)) box.classList.toggle("vmsnap-target", box === held.over);
      const frame = root.getBoundingClientRect();
      tip.hidden = !held.over;
      tip.textContent = held.over ? verdict(held.over) || words.wait : "";
      tip.style.left = `${Math.min(event.clientX - frame.left + 14, frame.width - 40)}px`;
      tip.style.top = `${event.clientY - frame.top + 18}px`;
    } else {
      stage.scrollTo(held.left - dx, held.top - dy);
    }
  });
  const release = (event) => {
    if (!held) return;
    const { box, drags, moved, began } = held;
    held = null;
    tip.hidden = true;
    tip.textContent = "";
    if (began) ask(null);
    if (box) box.style.transform = "";
    for (const one of boxesOf(stage)) one.classList.remove("vmsnap-dragged", "vmsnap-target");
    if (!box || event.type === "pointercancel") return;
    const over = boxAt(document.elementFromPoint(event.clientX, event.clientY));
    if (!moved) {
      select(box.dataset.path);
    } else if (drags && over && over !== box) {
      propose(box.dataset.path, over.dataset.path);
    }
  };
  document.addEventListener("pointerup", release);
  document.addEventListener("pointercancel", release);
  stage.addEventListener("focusin", () => carried && tellCarried());
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? ZOOM : 1 / ZOOM);
  }, { passive: false });

  const look = () => requestAnimationFrame(() => { // it is laid out by then
    stage.scrollTo(stage.scrollWidth, 0);
    root.scrollIntoView({ block: "nearest" });
  });
  model.on("change:svg", draw);
  model.on("change:selected", mark);
  model.on("change:look", look);
  model.on("change:progress", follow);
  model.on("msg:custom", answered);
  hatch();
  function count(more) {
    model.set("views", model.get("views") + more);
    model.save_changes();
  }

  count(1);
  draw();
  widened.observe(stage);
  return () => {
    widened.disconnect();
    count(-1);
    document.removeEventListener("pointerup", release);
    document.removeEventListener("pointercancel", release);
    model.off("change:svg", draw);
    model.off("change:selected", mark);
    model.off("change:look", look);
    model.off("change:progress", follow);
    model.off("msg:custom", answered);
  };
}

export default { render };
