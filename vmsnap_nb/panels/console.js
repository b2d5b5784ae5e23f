// A guest's console: a line that is entered appears at once with a spinner, then what it printed and its exit status.
// The line goes with the message that it was entered: what ipywidgets keeps in step may arrive after Enter, and then the
// line before would run once more.

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function render({ model, el }) {
  const words = model.get("words");
  let place = 0; // among the lines that were entered: the arrow keys bring them back
  let count = 0;
  const pending = []; // lines that were entered here, and of which Python has not said anything yet
  const root = element("div", "vmsnap-terminal");
  const hint = element("p", "vmsnap-hint");
  const booting = element("pre", "vmsnap-screen vmsnap-booting");
  booting.setAttribute("role", "group");
  booting.setAttribute("aria-label", words.booting);
  const output = element("div", "vmsnap-screen");
  output.tabIndex = 0;
  output.setAttribute("role", "log");
  output.setAttribute("aria-label", words.output);
  const form = element("form", "vmsnap-command");
  const label = element("label");
  const name = element("span", "vmsnap-prompt", words.label);
  const input = element("input");
  input.type = "text";
  input.placeholder = words.placeholder;
  input.spellcheck = false;
  input.autocapitalize = "off";
  label.append(name, input);
  const run = element("button", "jupyter-widgets jupyter-button widget-button", words.run);
  run.type = "submit";
  const stop = element("button", "jupyter-widgets jupyter-button widget-button", words.stop);
  stop.type = "button";
  stop.title = words.stop_title;
  form.append(label, run, stop);
  root.append(hint, booting, output, form);
  el.append(root);

  function entry({ prompt, line, text, state, badge }) {
    const made = element("div", "vmsnap-run");
    const head = element("div", "vmsnap-line");
    head.append(element("code", "", `${prompt}# ${line}`));
    if (state === "running") {
      const wheel = element("span", "vmsnap-wheel");
      wheel.setAttribute("role", "img");
      wheel.setAttribute("aria-label", words.running);
      head.append(wheel);
    } else {
      head.append(element("span", `vmsnap-badge vmsnap-exit-${state}`, badge));
    }
    made.append(head);
    if (text) made.append(element("pre", "", text));
    return made;
  }

  function draw() {
    const entries = model.get("entries");
    pending.splice(0, pending.findLastIndex((one) => entries.some((other) => other.token === one.token)) + 1);
    output.replaceChildren(...[...entries, ...pending].map(entry));
    output.hidden = output.childElementCount === 0;
    output.scrollTop = output.scrollHeight;
    stop.hidden = !entries.some((one) => one.state === "running") && pending.length === 0;
    hint.textContent = model.get("hint");
    hint.hidden = !hint.textContent;
    run.disabled = model.get("closed"); // the line stays, for when it can be run
    run.title = run.disabled ? hint.textContent : "";
    booting.textContent = model.get("booting");
    booting.hidden = !booting.textContent;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const line = input.value;
    if (!line.trim() || run.disabled) return;
    count += 1;
    const token = `${Date.now()}-${count}`;
    pending.push({ token, prompt: model.get("prompt"), line, text: "", state: "running" });
    model.send({ line, token });
    input.value = "";
    place = 0;
    draw();
  });
  stop.addEventListener("click", () => {
    model.send({ interrupt: true });
    input.focus();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "c" && event.ctrlKey && input.selectionStart === input.selectionEnd) {
      event.preventDefault();
      model.send({ interrupt: true });
      return;
    }
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    event.preventDefault();
    const lines = [...model.get("entries"), ...pending].map((one) => one.line);
    place = Math.min(Math.max(place + (event.key === "ArrowUp" ? 1 : -1), 0), lines.length);
    input.value = place ? lines.at(-place) : "";
  });
  for (const kind of ["keydown", "keypress"]) {
    input.addEventListener(kind, (event) => event.stopPropagation()); // a key means something else to a notebook
  }

  for (const what of ["entries", "hint", "prompt", "booting", "closed"]) model.on(`change:${what}`, draw);
  draw();
  return () => {
    for (const what of ["entries", "hint", "prompt", "booting", "closed"]) model.off(`change:${what}`, draw);
  };
}

export default { render };
