// What a cell says as a number, where it begins with one: "−12 %", "3.4 mL".
const number = (text) => parseFloat(text.replace("−", "-").replace("+", ""));
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells],
    body = table.tBodies[0];
  heads.forEach((head, n) => {
    const button = document.createElement("button"),
      said = (row) => row.cells[n].textContent.trim();
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) => {
        // What is missing comes last, whichever way.
        const missing = (a === "n/a" || a === "") - (b === "n/a" || b === "");
        const by = number(a) - number(b) || a.localeCompare(b, "en", { numeric: true });
        return missing || (up ? by : -by);
      };
      body.append(...[...body.rows].sort((a, b) => compare(said(a), said(b))));
    });
  });
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
document.querySelectorAll(".filtered").forEach((box) => {
  const field = box.querySelector("input"),
    rows = box.querySelectorAll("tbody tr");
  field.hidden = false;
  field.addEventListener("input", () =>
    rows.forEach((r) => {
      r.hidden = !r.textContent.toLowerCase().includes(field.value.toLowerCase());
    }),
  );
});
