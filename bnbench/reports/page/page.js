"use strict";
// Draws every figure from the page's own data, again whenever a control changes. Nothing is fetched.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("controls");
  const AXES = { step: "step", epoch: "epoch", second: "seconds of training" };
  const SCREEN = screenConfig();
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

  function isVisible(row, figure, choice) {
    if (hidden.has(row.variant)) return false;
    if (row.by && row.by !== choice.axis) return false;
    if (!figure.controls.includes("setting") || !page.settings.length) return true;
    return row.setting === (choice.setting || page.best[row.variant]);
  }

  // The chart was made for one axis and one split: put the chosen columns, and their names, in their place.
  // keepLegend: a saved figure has a legend of its own; in the page the names stand under the chart.
  function adapt(node, figure, choice, keepLegend) {
    if (Array.isArray(node)) return node.map((item) => adapt(item, figure, choice, keepLegend));
    if (node === null || typeof node !== "object") return node;
    const copy = Object.fromEntries(
      Object.entries(node).map(([key, value]) => [key, adapt(value, figure, choice, keepLegend)]));
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
    if (copy.legend) copy.legend = keepLegend ? { ...copy.legend, values: page.variants.filter((name) => !hidden.has(name)) } : null;
    return copy;
  }

  // No logarithm of 0 or less: such a number is left out, and a band that reaches below ends at the least mean.
  function positive(table) {
    const names = Object.keys(table[0] || {}).filter((name) => name.endsWith("_loss"));
    const least = Object.fromEntries(names.map((name) =>
      [name, table.reduce((low, row) => (row[name] > 0 && row[name] < low ? row[name] : low), Infinity)]));
    return table.map((row) => {
      const copy = { ...row };
      for (const name of names) {
        if (!(copy[name] > 0)) copy[name] = null;
        const low = name + "_low";
        if (low in copy && copy[low] !== null && !(copy[low] > 0)) copy[low] = least[name];
      }
      return copy;
    });
  }

  // Colours are the page's own, by name: they follow dark mode and paper without being drawn again.
  function screenConfig() {
    const text = "var(--text)", line = "var(--line)";
    return {
      background: "transparent", view: { stroke: null },
      font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
      axis: { labelColor: text, titleColor: text, gridColor: "var(--grid)", domainColor: line, tickColor: line, labelFontSize: 12,
        titleFontSize: 12, titleFontWeight: "normal", labelLimit: 0, labelOverlap: "parity", labelSeparation: 4 },
      text: { color: text, fontSize: 12 },
    };
  }

  function height(figure, datasets) {
    if (!figure.rows) return 230;
    const [column, pixels] = figure.rows;
    const values = new Set(Object.values(datasets).flat().map((row) => row[column]));
    return Math.max(1, values.size) * pixels;
  }

  // saved: for a file, where colours, width and legend are those of paper.
  function specification(figure, saved) {
    const choice = choices();
    const log = figure.controls.includes("log") && choice.scale === "log";
    const datasets = Object.fromEntries(figure.data.map((name) => {
      const table = rows[name].filter((row) => isVisible(row, figure, choice));
      return [name, log ? positive(table) : table];
    }));
    const look = saved
      ? { title: figure.title, width: figure.width, padding: 12, config: { ...page.paper, legend: { ...page.paper.legend, columns: figure.columns } } }
      : { width: "container", padding: 4, config: SCREEN };
    return { ...adapt(figure.spec, figure, choice, saved), ...look,
      height: height(figure, datasets), autosize: { type: "fit-x", contains: "padding" }, datasets };
  }

  // What is drawn, for those who don't see it: its own words at first; once changed, what was chosen.
  function words(box, figure) {
    const parts = [], choice = choices();
    const change = (control, value, first, text) => {
      if (figure.controls.includes(control) && value !== first) parts.push(text);
    };
    change("split", choice.split, "val", "of the training set");
    change("axis", choice.axis, "step", "over " + AXES[choice.axis]);
    change("setting", choice.setting, "", "at " + choice.setting);
    if (hidden.size) parts.push("without " + [...hidden].join(", "));
    box.dataset.words ??= box.getAttribute("aria-label");
    return parts.length ? `Changed: ${figure.title.join(" ")}, ${parts.join(", ")}. The numbers are in the table below.` : box.dataset.words;
  }

  async function draw(box) {
    const figure = page.figures[box.dataset.figure];
    const old = views.get(box);
    const options = { renderer: "svg", actions: false, tooltip: { theme: "page" } };
    views.set(box, await vegaEmbed(box, specification(figure, false), options));
    if (old) old.finalize();
    box.querySelector("svg.marks").setAttribute("aria-hidden", "true"); // the box says it
    box.setAttribute("aria-label", words(box, figure));
    box.dataset.drawn = String(Number(box.dataset.drawn || 0) + 1);
  }

  let waiting = Promise.resolve(); // one after the other: a click while drawing draws once more, last
  function drawAll(wanted) {
    const boxes = [...document.querySelectorAll(".chart")].filter((box) => wanted(page.figures[box.dataset.figure]));
    waiting = waiting.then(() => Promise.all(boxes.map(draw))).then(() => { document.body.dataset.ready = "true"; });
  }

  function addSaveButtons(box) {
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Save as " + format.toUpperCase();
      button.setAttribute("aria-label", `${button.textContent}: ${page.figures[box.dataset.figure].title.join(" ")}`);
      Object.assign(button.dataset, { save: format, of: box.dataset.figure });
      box.closest("figure").querySelector(".below").append(button);
    }
  }

  // With title and legend, on white: what a paper or a slide needs, whatever the screen's colours are.
  async function save(name, format) {
    const outside = document.createElement("div");
    const drawn = await vegaEmbed(outside, specification(page.figures[name], true), { renderer: "svg", actions: false });
    const link = document.createElement("a");
    link.href = await drawn.view.toImageURL(format, 2);
    link.download = `${name}.${format}`;
    link.click();
    drawn.finalize();
  }

  async function copyMethods(button) {
    const text = document.getElementById("methods-text");
    getSelection().selectAllChildren(text);
    await navigator.clipboard.writeText(text.textContent.trim()).catch(() => document.execCommand("copy"));
    button.nextElementSibling.textContent = "Copied.";
  }

  function toggle(button) {
    const on = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(on));
    if (on) hidden.delete(button.dataset.variant);
    else hidden.add(button.dataset.variant);
    for (const entry of document.querySelectorAll(".key li")) entry.hidden = hidden.has(entry.dataset.variant);
    drawAll(() => true);
  }

  const CONTROLS = { axis: "axis", scale: "log", split: "split", setting: "setting" };
  form.addEventListener("change", (event) => drawAll((figure) => figure.controls.includes(CONTROLS[event.target.name])));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "reset-zoom") drawAll(() => true);
    else if (button.id === "copy-methods") copyMethods(button);
    else if (button.dataset.save) save(button.dataset.of, button.dataset.save);
    else if (button.dataset.variant !== undefined) toggle(button);
  });
  document.querySelectorAll(".chart").forEach(addSaveButtons);
  document.getElementById("copy-methods").hidden = false; // without this script it could do nothing
  form.reset(); // what a browser remembers of an earlier visit would not be what is drawn
  drawAll(() => true);
})();
