// HTML from Python, with its times as the reader's clock has them; the tooltip has UTC, as in Python.

function render({ model, el }) {
  function draw() {
    el.innerHTML = model.get("value"); // our own: what is in it was escaped when it was made
    for (const time of el.querySelectorAll("time")) {
      const zone = time.hasAttribute("data-zone") ? { timeZoneName: "short" } : {};
      const clock = { hour: "numeric", minute: "2-digit", second: "2-digit", ...zone };
      time.title = time.textContent;
      time.textContent = new Date(time.dateTime).toLocaleTimeString(model.get("language"), clock);
    }
  }

  model.on("change:value", draw);
  draw();
  return () => model.off("change:value", draw);
}

export default { render };
