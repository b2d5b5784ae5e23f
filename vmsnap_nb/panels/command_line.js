// A line for the shell of a guest. The line goes with the message that it was entered: what ipywidgets keeps in step may
// arrive after Enter, and then the line before would run once more.

function render({ model, el }) {
  const words = model.get("words");
  const lines = []; // that were entered: the arrow keys bring them back
  let place = 0;
  const form = document.createElement("form");
  form.className = "jupyter-widgets widget-inline-hbox widget-text vmsnap-command";
  const label = document.createElement("label");
  const name = document.createElement("span");
  name.className = "widget-label";
  name.textContent = words.label;
  const input = document.createElement("input");
  input.type = "text";
  input.placeholder = words.placeholder;
  input.spellcheck = false;
  label.append(name, input);
  const button = document.createElement("button");
  button.type = "submit";
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.textContent = words.run;
  form.append(label, button);
  el.append(form);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    model.send({ line: input.value });
    lines.push(input.value);
    place = lines.length;
    input.value = "";
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
    event.preventDefault();
    place = Math.min(Math.max(place + (event.key === "ArrowUp" ? -1 : 1), 0), lines.length);
    input.value = lines[place] ?? "";
  });
  for (const kind of ["keydown", "keypress"]) {
    input.addEventListener(kind, (event) => event.stopPropagation()); // a key means something else to a notebook
  }
}

export default { render };
