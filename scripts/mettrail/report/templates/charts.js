// Marks of charts: one stop of the tab key for each chart, arrow keys from mark to mark, and what a mark is beside it.
// The nearest mark answers: a finger is wider than most of them.
const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("aria-hidden", "true");
tip.hidden = true;
document.body.append(tip);
document.querySelectorAll(".chart").forEach((chart) => {
  const marks = [...chart.querySelectorAll(".mark")];
  if (!marks.length) return;
  let shown = null,
    touched = false,
    ready = false;
  // When the reader comes to the chart, not before: charts of hundreds of patients have thousands of marks.
  const prepare = () => {
    if (ready) return;
    ready = true;
    marks.forEach((mark, n) => {
      // The tip takes the place of the title, which would be shown beside it.
      const title = mark.querySelector("title");
      mark.setAttribute("aria-label", title.textContent);
      if (mark.tagName !== "a") mark.setAttribute("role", "img");
      title.remove();
      mark.setAttribute("tabindex", n ? -1 : 0);
    });
  };
  chart.addEventListener("focusin", prepare);
  chart.addEventListener("pointerover", prepare);
  const hide = () => {
    if (shown) shown.classList.remove("shown");
    shown = null;
    tip.hidden = true;
  };
  const place = () => {
    if (!shown) return;
    const at = shown.getBoundingClientRect(),
      left = at.left + at.width / 2 - tip.offsetWidth / 2,
      above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(6, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${above > 6 ? above : at.bottom + 8}px`;
  };
  const show = (mark, hint = "") => {
    hide();
    shown = mark;
    mark.classList.add("shown");
    tip.textContent = mark.getAttribute("aria-label") + hint;
    tip.hidden = false;
    place();
  };
  const distance = (mark, x, y) => {
    const { left, right, top, bottom } = mark.getBoundingClientRect();
    return Math.hypot(Math.max(left - x, 0, x - right), Math.max(top - y, 0, y - bottom));
  };
  const nearest = (x, y, reach, among = marks) => {
    let best = null;
    among.forEach((mark) => {
      const away = distance(mark, x, y);
      if (away < reach) [best, reach] = [mark, away];
    });
    return best;
  };
  const step = (key) => {
    const now = marks.indexOf(document.activeElement),
      at = marks[now].getBoundingClientRect(),
      [x, y] = [at.left + at.width / 2, at.top + at.height / 2];
    if (key === "ArrowRight") return marks[now + 1];
    if (key === "ArrowLeft") return marks[now - 1];
    if (key === "Home") return marks[0];
    if (key === "End") return marks.at(-1);
    const beyond = (mark) => {
      const { top, bottom } = mark.getBoundingClientRect();
      return key === "ArrowDown" ? (top + bottom) / 2 > y + 2 : (top + bottom) / 2 < y - 2;
    };
    return nearest(x, y, Infinity, marks.filter(beyond));
  };
  // Listened to on the figure: an SVG that listens for the focus could have it.
  chart.addEventListener("pointerdown", (event) => (touched = event.pointerType !== "mouse"));
  chart.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const mark = event.target.closest(".mark") ?? nearest(event.clientX, event.clientY, 6);
    if (mark === shown) return;
    if (mark) show(mark);
    else hide();
  });
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  chart.addEventListener("click", (event) => {
    if (!touched) return;
    const mark = nearest(event.clientX, event.clientY, 24);
    // The first tap says what it is, the second goes there.
    event.preventDefault();
    if (!mark) hide();
    else if (mark !== shown) show(mark, mark.hasAttribute("href") ? " · tap again to open" : "");
    else if (mark.hasAttribute("href")) location.href = mark.href.baseVal;
  });
  chart.addEventListener("focusin", (event) => {
    const mark = event.target.closest(".mark");
    if (!mark) return;
    marks.forEach((other) => other.setAttribute("tabindex", other === mark ? 0 : -1));
    if (!touched) show(mark);
  });
  chart.addEventListener("focusout", () => touched || hide());
  chart.addEventListener("keydown", (event) => {
    touched = false;
    if (event.key === "Escape") hide();
    // The figure itself is scrolled by its keys.
    if (event.target === chart || !/^(Arrow|Home|End)/.test(event.key)) return;
    event.preventDefault();
    step(event.key)?.focus();
  });
  addEventListener("scroll", place, { capture: true, passive: true });
});
document.querySelectorAll(".pointing [hidden]").forEach((hint) => hint.removeAttribute("hidden"));
