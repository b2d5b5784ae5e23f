// The figure of a forest, alive: select by click or Enter, propose a merge by dragging one image onto another.

const DRAG = 6; // pixels that a pointer may move and still be a click
const ZOOM = 1.25;

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
  const root = document.createElement("div");
  root.className = "vmsnap-chain-view";
  const bar = document.createElement("div");
  bar.className = "vmsnap-zoom";
  const stage = document.createElement("div");
  stage.className = "vmsnap-stage";
  stage.tabIndex = 0;
  stage.setAttribute("role", "group");
  root.append(bar, stage);
  el.append(root);
  let zoom = 1;
  let held = null; // what the pointer holds: a box to drag, or the stage to pan

  function resize() {
    const svg = stage.querySelector("svg");
    if (!svg) return;
    const [, , wide, high] = svg.getAttribute("viewBox").split(/\s+/).map(Number);
    svg.setAttribute("width", `${wide * zoom * 1.333}px`);
    svg.setAttribute("height", `${high * zoom * 1.333}px`);
  }

  function setZoom(value) {
    zoom = Math.min(Math.max(value, 0.05), 6);
    resize();
  }

  function fit() {
    const svg = stage.querySelector("svg");
    if (svg) setZoom(Math.min(1, (stage.clientWidth - 8) / (svg.viewBox.baseVal.width * 1.333)));
  }

  bar.append(
    button("+", "Zoom in", () => setZoom(zoom * ZOOM)),
    button("−", "Zoom out", () => setZoom(zoom / ZOOM)),
    button("Fit", "Fit into the width", fit),
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
    if (svg) {
      stage.innerHTML = svg; // our own SVG: each name in it was escaped when it was made
    } else {
      const text = document.createElement("pre");
      text.textContent = model.get("text");
      stage.replaceChildren(text);
    }
    stage.setAttribute("aria-label", model.get("summary"));
    stage.querySelector("svg")?.setAttribute("role", "group");
    const paths = model.get("boxes");
    for (const box of stage.querySelectorAll("[data-box]")) {
      const path = paths[box.dataset.box];
      if (!path) continue;
      box.dataset.path = path;
      box.setAttribute("tabindex", "0");
      box.setAttribute("role", "button");
      box.setAttribute("aria-label", box.querySelector("title")?.textContent || path);
      if (path === focused) box.focus();
    }
    resize();
    mark();
    animate(stage, before);
  }

  function select(path) {
    model.set("selected", model.get("selected") === path ? null : path);
    model.save_changes();
  }

  const boxAt = (target) => target?.closest?.("[data-path]") ?? null;

  stage.addEventListener("keydown", (event) => {
    const box = boxAt(event.target);
    if (box && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      event.stopPropagation(); // Shift+Enter and Enter are the notebook's own
      select(box.dataset.path);
    }
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = { box: boxAt(event.target), x: event.clientX, y: event.clientY, moved: false,
             left: stage.scrollLeft, top: stage.scrollTop };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    held.moved ||= Math.hypot(dx, dy) > DRAG;
    if (!held.moved) return;
    event.preventDefault();
    if (held.box) {
      held.box.classList.add("vmsnap-dragged");
      const over = boxAt(document.elementFromPoint(event.clientX, event.clientY));
      for (const box of boxesOf(stage)) box.classList.toggle("vmsnap-target", box === over && box !== held.box);
    } else {
      stage.scrollTo(held.left - dx, held.top - dy);
    }
  });
  const release = (event) => {
    if (!held) return;
    const { box, moved } = held;
    held = null;
    for (const one of boxesOf(stage)) one.classList.remove("vmsnap-dragged", "vmsnap-target");
    if (!box || event.type === "pointercancel") return;
    const over = boxAt(document.elementFromPoint(event.clientX, event.clientY));
    if (!moved) {
      select(box.dataset.path);
    } else if (over && over !== box) {
      model.set("proposed", [box.dataset.path, over.dataset.path]);
      model.save_changes();
    }
  };
  document.addEventListener("pointerup", release);
  document.addEventListener("pointercancel", release);
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    setZoom(event.deltaY < 0 ? zoom * ZOOM : zoom / ZOOM);
  }, { passive: false });

  model.on("change:svg", draw);
  model.on("change:selected", mark);
  draw();
  return () => {
    document.removeEventListener("pointerup", release);
    document.removeEventListener("pointercancel", release);
    model.off("change:svg", draw);
    model.off("change:selected", mark);
  };
}

export default { render };
