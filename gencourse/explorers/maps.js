// Networks of feature maps, run here: maps.py packs them. A map is (channels, height, width), in one array. `unpack` is plane.js's,
// the other layers are those of networks.js.

// n Gaussian numbers, each of two uniform ones (Box and Muller).
function normals(next, n) {
  return Float64Array.from({ length: n }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    return radius * Math.cos(2 * Math.PI * next());
  });
}

// Layer norm: over all channels and pixels, then a scale and a shift for each channel.
function normalise(x, weight, bias, eps) {
  const area = x.length / weight.length, mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  const scale = 1 / Math.sqrt(x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length + eps);
  return x.map((v, i) => (v - mean) * scale * weight[Math.floor(i / area)] + bias[Math.floor(i / area)]);
}

// A sequence of layers with its numbers unpacked once: maps -> maps.
export function mapping(layers) {
  const steps = layers.map((layer) => {
    if (layer.kind === "leaky") return (x) => x.map((v) => (v > 0 ? v : layer.slope * v));
    if (layer.kind !== "norm") return network([layer]);
    const weight = unpack(layer.weight), bias = unpack(layer.bias);
    return (x) => normalise(x, weight, bias, layer.eps);
  });
  return (x) => steps.reduce((h, step) => step(h), x);
}

// Twice the sides, each pixel four times; half the sides, each the mean of four pixels.
function doubled(x, width) {
  const across = 2 * width;
  return Float64Array.from({ length: 4 * x.length }, (_, i) => x[Math.floor(i / (2 * across)) * width + Math.floor((i % across) / 2)]);
}
function halved(x, width) {
  const across = width / 2;
  return Float64Array.from({ length: x.length / 4 }, (_, i) => {
    const at = 2 * width * Math.floor(i / across) + 2 * (i % across);
    return (x[at] + x[at + 1] + x[at + width] + x[at + width + 1]) / 4;
  });
}

// Maps of the same sides on top of each other.
function beside(...parts) {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  return all;
}
