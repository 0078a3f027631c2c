// What several explorers need, put before their own module by `helpers` in Python: elements, numbers, and a point to be dragged.

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function unpack({ dtype, data }) {  // float16 or float32 in base64, little-endian
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  if (dtype !== "float16") return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
    const half = view.getUint16(2 * i, true), sign = half >> 15 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}

// Drag the mark in the area, which shows [l, r] x [d, u]: `put(a, b)` is told where to, `where()` says where it is, `home()`
// brings it back. A finger that swipes up or down scrolls the page; one that goes sideways, taps, or begins on the mark moves
// it. The arrow keys move it too, with Shift in five times larger steps: by `step`, and to `move` where that is not `put`.
function draggable(area, mark, [l, r, d, u], { put, where, home, step: small = (r - l) / 80, move = put }) {
  let dragging = false, tap = null;
  const stop = () => { dragging = false; tap = null; };
  const inside = (a, b, to = put) => to(Math.min(r, Math.max(l, a)), Math.min(u, Math.max(d, b)));
  const follow = (event) => {
    const { left, top, width, height } = area.getBoundingClientRect();
    inside(l + ((r - l) * (event.clientX - left)) / width, u - ((u - d) * (event.clientY - top)) / height);
  };
  area.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    tap = event.pointerType === "touch" && !event.composedPath().includes(mark) ? [event.clientX, event.clientY] : null;
    area.setPointerCapture(event.pointerId);
    area.focus({ preventScroll: true });
    event.preventDefault();
    if (!tap) follow(event);
  });
  area.addEventListener("pointermove", (event) => {
    if (tap && Math.abs(event.clientX - tap[0]) > Math.abs(event.clientY - tap[1]) + 4) tap = null;
    if (dragging && !tap) follow(event);
  });
  area.addEventListener("pointerup", (event) => { if (dragging) follow(event); stop(); });
  for (const end of ["pointercancel", "lostpointercapture"]) area.addEventListener(end, stop);
  area.addEventListener("keydown", (event) => {
    const step = small * (event.shiftKey ? 5 : 1);
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (!by && event.key !== "Home") return;
    event.preventDefault();  // the page must not scroll
    if (!by) return home();
    const [a, b] = where();
    inside(a + by[0], b + by[1], move);
  });
}

