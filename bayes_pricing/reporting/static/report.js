"use strict";
// Draws every chart as SVG with the interpreter (no eval), and makes tables sortable by their headings.
for (const place of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  if (place.clientWidth < 560) {
    spec.config.axis.labelLimit = place.clientWidth < 340 ? 90 : 125;
    spec.config.legend.columns = 2;
  }
  try {
    const runtime = vega.parse(vegaLite.compile(spec, { logger: vega.logger(vega.Error) }).spec, null, { ast: true });
    const view = new vega.View(runtime, { expr: vegaInterpreter, renderer: "svg", container: place });
    view.runAsync().then(() => place.classList.add("drawn"));
  } catch (error) {
    place.textContent = "This chart could not be drawn; its numbers stand below.";
    place.closest("figure").querySelector("details").open = true;
    console.error(error);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") !== "descending";
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const [left, right] = [key(a), key(b)];
        const numbers = [Number(left), Number(right)];
        if (left !== "" && right !== "" && numbers.every(Number.isFinite)) return numbers[0] - numbers[1];
        return left.localeCompare(right);
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows);
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  });
}
