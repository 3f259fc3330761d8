"use strict";
// Draws every figure from the page's own data, again whenever a control changes. Nothing is fetched.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("controls");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const AXES = { step: "step", epoch: "epoch", second: "seconds of training" };
  const views = new Map();
  const hidden = new Set();
  const rows = Object.fromEntries(Object.entries(page.data).map(([name, table]) => [name, unpack(table)]));

  // Columns of values, texts as places in a list, back to rows.
  function unpack({ columns, texts }) {
    const names = Object.keys(columns);
    const length = names.length ? columns[names[0]].length : 0;
    return Array.from({ length }, (_, i) =>
      Object.fromEntries(names.map((name) => [name, texts[name] ? texts[name][columns[name][i]] : columns[name][i]])));
  }

  function choices() {
    const given = new FormData(form);
    return { axis: given.get("axis"), scale: given.get("scale"), split: given.get("split"), setting: given.get("setting") || "" };
  }

  function shown(row, figure, choice) {
    if (hidden.has(row.variant)) return false;
    if (row.by && row.by !== choice.axis) return false;
    if (!figure.controls.includes("setting") || !page.settings.length) return true;
    return row.setting === (choice.setting || page.best[row.variant]);
  }

  // The chart was made for one axis and one split: put the chosen columns, and their names, in their place.
  function adapt(node, figure, choice) {
    if (Array.isArray(node)) return node.map((item) => adapt(item, figure, choice));
    if (node === null || typeof node !== "object") return node;
    const copy = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, adapt(value, figure, choice)]));
    if (copy.field === "step" || copy.field === "x") {
      if (copy.field === "step") copy.field = choice.axis;
      copy.title = AXES[choice.axis];
    } else if (figure.controls.includes("split") && typeof copy.field === "string" && copy.field.startsWith("val_")) {
      copy.field = choice.split + copy.field.slice(3);
      if (copy.title) copy.title = copy.title.replace(/^val /, choice.split + " ");
      if (copy.scale && figure.controls.includes("log")) copy.scale = choice.scale === "log" ? { type: "log" } : { type: "linear", zero: false };
    }
    for (const key of ["calculate", "as"]) { // what a chart computes of its columns
      if (figure.controls.includes("split") && typeof copy[key] === "string") copy[key] = copy[key].replaceAll("val_", choice.split + "_");
    }
    if ("legend" in copy) copy.legend = null; // the page has one for all figures, with a button a variant
    return copy;
  }

  // No logarithm of 0 or less: such a number is left out, and a band that reaches below ends at the least mean.
  function positive(found) {
    const names = Object.keys(found[0] || {}).filter((name) => name.endsWith("_loss"));
    const least = Object.fromEntries(names.map((name) =>
      [name, found.reduce((low, row) => (row[name] > 0 && row[name] < low ? row[name] : low), Infinity)]));
    return found.map((row) => {
      const copy = { ...row };
      for (const name of names) {
        if (!(copy[name] > 0)) copy[name] = null;
        const low = name + "_low";
        if (low in copy && copy[low] !== null && !(copy[low] > 0)) copy[low] = least[name];
      }
      return copy;
    });
  }

  function config() {
    const style = getComputedStyle(document.documentElement);
    const [text, grid, line] = ["--text", "--grid", "--line"].map((name) => style.getPropertyValue(name).trim());
    const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
    return {
      background: "transparent", font, view: { stroke: null },
      axis: { labelColor: text, titleColor: text, gridColor: grid, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 0 },
      text: { color: text, fontSize: 12 },
    };
  }

  function height(figure, datasets) {
    if (!figure.row_height) return 260;
    const [column, pixels] = figure.row_height;
    const found = new Set(Object.values(datasets).flat().map((row) => row[column]));
    return Math.max(1, found.size) * pixels;
  }

  function specification(figure, choice) {
    const log = figure.controls.includes("log") && choice.scale === "log";
    const datasets = Object.fromEntries(figure.data.map((name) => {
      const found = rows[name].filter((row) => shown(row, figure, choice));
      return [name, log ? positive(found) : found];
    }));
    return { ...adapt(figure.spec, figure, choice), width: "container",
      height: height(figure, datasets), autosize: { type: "fit-x", contains: "padding" }, padding: 4, config: config(), datasets };
  }

  // What is drawn, for those who don't see it: its own words at first; once changed, what was chosen.
  function words(figure, choice) {
    const parts = [];
    const change = (control, value, first, text) => {
      if (figure.controls.includes(control) && value !== first) parts.push(text);
    };
    change("split", choice.split, "val", "of the training set");
    change("axis", choice.axis, "step", "over " + AXES[choice.axis]);
    change("setting", choice.setting, "", "at " + choice.setting);
    if (hidden.size) parts.push("without " + [...hidden].join(", "));
    return parts.length ? `Changed: ${figure.title}, ${parts.join(", ")}. The numbers are in the table below.` : figure.words;
  }

  async function draw(box) {
    const figure = page.figures[box.dataset.figure];
    const options = { renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: box.dataset.figure };
    const old = views.get(box);
    const result = await vegaEmbed(box, specification(figure, choices()), options);
    if (old) old.finalize();
    views.set(box, result);
    box.querySelector("svg.marks").setAttribute("aria-hidden", "true"); // the box says it, and has the menu
    box.setAttribute("aria-label", words(figure, choices()));
    box.dataset.drawn = String(Number(box.dataset.drawn || 0) + 1);
  }

  let waiting = Promise.resolve(); // one after the other: a click while drawing draws once more, last
  function drawAll(wanted) {
    const boxes = [...document.querySelectorAll(".chart")].filter((box) => wanted(page.figures[box.dataset.figure]));
    waiting = waiting.then(() => Promise.all(boxes.map(draw))).then(() => { document.body.dataset.ready = "true"; });
  }

  const CONTROLS = { axis: "axis", scale: "log", split: "split", setting: "setting" };
  form.addEventListener("change", (event) => drawAll((figure) => figure.controls.includes(CONTROLS[event.target.name])));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("reset-zoom").addEventListener("click", () => drawAll(() => true));
  document.getElementById("legend").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(on));
    if (on) hidden.delete(button.dataset.variant);
    else hidden.add(button.dataset.variant);
    drawAll(() => true);
  });
  dark.addEventListener("change", () => drawAll(() => true));
  form.reset(); // what a browser remembers of an earlier visit would not be what is drawn
  drawAll(() => true);
})();
