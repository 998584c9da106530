// QR codes as pictures.

import { correction, generate } from "./lean-qr.js";

const QUIET = 4; // modules around it

/** Return an SVG element that shows `text`, black on white with its quiet zone, whatever the theme. */
export function picture(text, label) {
  const code = generate(text, { minCorrectionLevel: correction.M });
  const side = code.size + 2 * QUIET;
  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  let path = "";
  for (let y = 0; y < code.size; y += 1) {
    for (let x = 0; x < code.size; x += 1) if (code.get(x, y)) path += `M${x + QUIET} ${y + QUIET}h1v1h-1z`;
  }
  const svg = element("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label, class: "qr" });
  svg.append(element("rect", { width: side, height: side, fill: "#fff" }));
  svg.append(element("path", { d: path, fill: "#000", "shape-rendering": "crispEdges" }));
  return svg;
}
