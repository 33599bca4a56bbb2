// All visits in NiiVue, one canvas each, every crosshair at one place of the patient's reference space.
(async () => {
  const find = (id) => document.getElementById(id),
    all = (selector) => [...document.querySelectorAll(selector)];
  if (!document.createElement("canvas").getContext("webgl2") || !("DecompressionStream" in window)) return;
  // As many as are of use side by side; browsers allow sixteen.
  const MOST = 6,
    FIRST = 3,
    FLICKER_MS = 700;
  const course = JSON.parse(find("course").textContent);
  const panes = all("#panes > li"),
    visits = all(".visit"),
    lesions = all(".lesion");
  const colourOf = new Map(Object.values(course.lesions).map((l) => [l.label, l.colour + 1]));
  const nameOf = new Map(Object.entries(course.lesions).map(([name, l]) => [l.label, name]));
  const opened = new Map();
  let chosen = "",
    flicker = 0;

  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(find(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };
  const rgb = (hex) => [1, 3, 5].map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255).toFixed(4)).join(",");

  // The drawing of a visit: colour of the lesion in the low four bits, what else is there above them. A line runs along
  // the inner side of a voxel's border, as thin at every zoom, and hides nothing else.
  const shader = () => {
    const lines = course.lines.map((line, n) => {
      const mask = line.bit ? line.bit << 4 : 15,
        ink = line.colour ? `vec3(${rgb(line.colour)})` : "ink[own & 15]";
      return all(".line")[n].checked ? `if (edge(own, ${mask})) color.rgb = ${ink};` : "";
    });
    return `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D drawing;
uniform int axCorSag;
in vec3 texPos;
out vec4 color;
const vec3 ink[${course.colours.length + 1}] = vec3[](vec3(0),${course.colours.map((c) => `vec3(${rgb(c)})`)});
vec3 size, at, reach;
int mark(vec3 place) {
  return int(texelFetch(drawing, clamp(ivec3(place), ivec3(0), ivec3(size) - 1), 0).r * 255.0 + 0.5);
}
bool edge(int own, int mask) {
  if ((own & mask) == 0) return false;
  for (int i = -1; i <= 1; i++)
    for (int j = -1; j <= 1; j++) {
      vec3 way = axCorSag == 0 ? vec3(i, j, 0) : axCorSag == 1 ? vec3(i, 0, j) : vec3(0, i, j);
      if ((mark(at + way * reach) & mask) != (own & mask)) return true;
    }
  return false;
}
void main() {
  size = vec3(textureSize(drawing, 0));
  at = texPos * size;
  reach = min(fwidth(at) * 1.6, vec3(0.9));
  color = vec4(texture(volume, texPos).rgb, 1.0);
  int own = mark(at);
  ${lines.reverse().join("\n  ")}
}`;
  };

  const follow = (from) => {
    for (const { nv } of opened.values())
      if (nv !== from) {
        nv.scene.crosshairPos = from.scene.crosshairPos;
        nv.scene.pan2Dxyzmm = from.scene.pan2Dxyzmm;
        nv.drawScene();
      }
    const { labels } = [...opened.values()].find(({ nv }) => nv === from);
    const [x, y, z] = course.shape.map((n, i) => Math.min(n - 1, Math.floor(from.scene.crosshairPos[i] * n)));
    const name = nameOf.get(labels[x + course.shape[0] * (y + course.shape[1] * z)]);
    if (name) say(name);
  };
  const each = (change) => {
    for (const { nv } of opened.values()) {
      change(nv);
      nv.drawScene();
    }
  };
  const zoom = (nv) => {
    const scale = Number(find("zoom").value);
    const mm = nv.frac2mm(nv.scene.crosshairPos);
    // The crosshair stays where it is on the screen.
    nv.scene.pan2Dxyzmm = [...[0, 1, 2].map((i) => (1 - scale) * mm[i]), scale];
  };
  const say = (name) => {
    chosen = name;
    lesions.forEach((b) => b.setAttribute("aria-pressed", String(b.value === name)));
    all(".said").forEach((p) => {
      p.textContent = `${name}: ${course.lesions[name].words[p.dataset.session] ?? "n/a"}`;
    });
  };
  const go = (name) => {
    const { place } = lesions.find((b) => b.value === name).dataset;
    say(name);
    if (!place) return;
    each((nv) => {
      nv.scene.crosshairPos = nv.mm2frac(place.split(" ").map(Number));
      zoom(nv);
    });
  };

  const open = async (n) => {
    panes[n].hidden = false;
    const nv = new niivue.Niivue({
      logLevel: "error",
      isRadiologicalConvention: true,
      showAllOrientationMarkers: true,
      dragMode: 0,
      dragAndDropEnabled: false,
      sliceType: Number(find("plane").value),
      crosshairWidth: 0.6,
      crosshairGap: 6,
      crosshairColor: [0.62, 0.82, 1, 0.8],
      fontColor: [0.62, 0.82, 1, 1],
    });
    const [scan, lesion, marks] = await Promise.all(["scan", "lesions", "marks"].map((kind) => unpack(`${kind}-${n}`)));
    const labels = new Uint16Array(lesion),
      more = new Uint8Array(marks);
    await nv.attachToCanvas(panes[n].querySelector("canvas"), false);
    const file = niivue.NVImage.createNiftiArray(course.shape, [1, 1, 1], course.affine, 2, new Uint8Array(scan));
    const white = Number(find("brightness").max) + Number(find("brightness").min) - Number(find("brightness").value);
    nv.addVolume(await niivue.NVImage.new(file.buffer, `visit ${n}`, "gray", 1, null, 0, white));
    nv.createEmptyDrawing();
    for (let i = 0; i < labels.length; i++) nv.drawBitmap[i] = (colourOf.get(labels[i]) ?? 0) | (more[i] << 4);
    nv.refreshDrawing(false);
    nv.setCustomSliceShader(shader());
    const [other] = opened.values();
    opened.set(n, { nv, labels });
    if (other) follow(other.nv);
    else if (chosen) go(chosen);
    nv.onLocationChange = () => follow(nv);
    nv.drawScene();
  };
  const close = (n) => {
    const { nv } = opened.get(n),
      canvas = panes[n].querySelector("canvas");
    opened.delete(n);
    nv.cleanup();
    nv.gl.getExtension("WEBGL_lose_context")?.loseContext();
    canvas.replaceWith(canvas.cloneNode());
    panes[n].hidden = true;
  };
  const settle = async () => {
    for (const box of visits) {
      const n = Number(box.value);
      if (box.checked && !opened.has(n)) await open(n);
      if (!box.checked && opened.has(n)) close(n);
    }
    const full = visits.filter((box) => box.checked).length >= MOST;
    visits.forEach((box) => (box.disabled = full && !box.checked));
  };
  // One after the other: a visit takes a moment to open.
  let turn = Promise.resolve();
  const update = () => (turn = turn.then(settle));

  const stop = () => {
    clearInterval(flicker);
    find("panes").classList.remove("flickering");
    panes.forEach((pane, n) => {
      pane.classList.remove("unseen");
      pane.hidden = !opened.has(n);
    });
    find("stop").hidden = true;
  };
  const start = async (n) => {
    for (const m of [n - 1, n]) visits[m].checked = true;
    await update();
    find("panes").classList.add("flickering");
    panes.forEach((pane, m) => (pane.hidden = m !== n && m !== n - 1));
    panes[n - 1].classList.add("unseen");
    find("stop").hidden = false;
    find("stop").focus();
    flicker = setInterval(() => [n - 1, n].forEach((m) => panes[m].classList.toggle("unseen")), FLICKER_MS);
  };

  find("instead").hidden = true;
  find("viewer").hidden = false;
  visits.slice(-FIRST).forEach((box) => (box.checked = true));
  try {
    await update();
  } catch (error) {
    find("instead").hidden = false;
    find("viewer").hidden = true;
    throw error;
  }
  visits.forEach((box) => box.addEventListener("change", () => (stop(), update())));
  all(".line").forEach((box) => box.addEventListener("change", () => each((nv) => nv.setCustomSliceShader(shader()))));
  all(".flicker").forEach((button) => button.addEventListener("click", () => start(Number(button.value))));
  find("stop").addEventListener("click", stop);
  find("plane").addEventListener("change", (event) => each((nv) => nv.setSliceType(Number(event.target.value))));
  find("zoom").addEventListener("input", () => each(zoom));
  find("brightness").addEventListener("change", (event) =>
    each((nv) => {
      nv.volumes[0].cal_max = Number(event.target.max) + Number(event.target.min) - Number(event.target.value);
      nv.updateGLVolume();
    }),
  );
  lesions.forEach((button) => button.addEventListener("click", () => go(button.value)));
  const asked = lesions.find((b) => b.value === decodeURIComponent(location.hash.slice(1)) && !b.disabled);
  const first = asked ?? lesions.find((b) => !b.disabled);
  if (first) go(first.value);
  document.documentElement.dataset.viewer = "ready";
})();
