// The form that writes a reader's table. Nothing leaves the page: rows are shown, copied or saved as a file.
document.querySelectorAll("form.decide").forEach((form) => {
  const { field, track_id: track, session_id: session, word, number, reader, date, why } = form.elements,
    [rows, copy, undo, link, said, unit] = [".rows", ".copy", ".undo", ".download", ".said", "label small"].map((name) =>
      form.querySelector(name),
    ),
    columns = ["session_id", "track_id", "field", "value", "reader", "date", "reason"],
    decided = new Map();
  const offer = (select, fits) => {
    [...select.options].forEach((option) => (option.disabled = option.hidden = !fits(option)));
    if (select.selectedOptions[0]?.disabled ?? true) select.value = [...select.options].find(fits)?.value ?? "";
  };
  const split = (text) => (text ?? "").split(" ").filter(Boolean);
  // Only what the decision is about can be chosen, and only lesions and sessions that it can be about.
  const limit = () => {
    const { about, words, expected, fits } = field.selectedOptions[0].dataset;
    const of = (option) => split(option.dataset.fits);
    [track, session].forEach((select) => (select.closest("label").hidden = !split(about).includes(select.name)));
    offer(track, (option) => split(fits).every((fit) => of(option).includes(fit)));
    const from = track.selectedOptions[0];
    offer(session, (option) => track.closest("label").hidden || (from && of(from).includes(option.value)));
    if (word.dataset.of !== field.value) word.replaceChildren(...split(words).map((each) => new Option(each)));
    word.dataset.of = field.value;
    word.hidden = word.disabled = !words;
    number.hidden = number.disabled = !!words;
    number.required = !words;
    number.min = field.value === "ld_mm" ? 0 : "";
    unit.textContent = expected + (expected === "a day" ? ", as in cohort.tsv" : "");
    form.querySelector("button").disabled =
      (!track.closest("label").hidden && !track.value) || (!session.closest("label").hidden && !session.value);
  };
  const write = () => {
    rows.value = decided.size ? [columns, ...decided.values()].map((row) => row.join("\t") + "\n").join("") : "";
    copy.disabled = undo.disabled = link.hidden = !decided.size;
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob([rows.value], { type: "text/tab-separated-values" }));
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const about = [session, track].map((select) => (select.closest("label").hidden ? "n/a" : select.value)),
      value = word.hidden ? number.value : word.value,
      // A cell holds neither tabs nor line breaks, and is not empty.
      notes = [reader, date, why].map((input) => input.value.replace(/\s+/g, " ").trim() || "n/a"),
      key = [...about, field.value].join(" ");
    decided.delete(key);
    decided.set(key, [...about, field.value, value, ...notes]);
    write();
    said.textContent = `${decided.size} decision${decided.size > 1 ? "s" : ""}`;
  });
  undo.addEventListener("click", () => {
    decided.delete([...decided.keys()].at(-1));
    write();
    said.textContent = "taken out";
  });
  copy.addEventListener("click", () => {
    rows.select();
    // navigator.clipboard is not there on every page from a disk.
    said.textContent = document.execCommand("copy") ? "copied" : "not copied: mark the rows and copy them";
  });
  form.addEventListener("change", limit);
  // What is listed for review leads here: the first decision that can be taken on that lesion at that session, the present one before others.
  const turnTo = (lesion, name) => {
    for (const each of [field.value, ...[...field.options].map((option) => option.value)]) {
      field.value = each;
      track.value = lesion;
      session.value = name;
      limit();
      const about = split(field.selectedOptions[0].dataset.about);
      if (about.includes("track_id") && track.value === lesion && (!about.includes("session_id") || session.value === name)) return;
    }
  };
  document.querySelectorAll("a[href='#decide'][data-track]").forEach((link) =>
    link.addEventListener("click", () => turnTo(link.dataset.track, link.dataset.session)),
  );
  const today = new Date();
  date.value = new Date(today - today.getTimezoneOffset() * 60000).toISOString().slice(0, 10);
  limit();
  form.hidden = false;
});
