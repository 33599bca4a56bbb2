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
