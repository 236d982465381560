"use strict";
// Draw one figure after another, so that a page with many figures answers from the start.
(() => {
  const waiting = [...document.querySelectorAll(".plot")];
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const narrow = 600; // pixels; the buttons would cover the legend

  function draw(place) {
    const figure = JSON.parse(place.nextElementSibling.textContent);
    place.removeAttribute("style");
    const buttons = place.clientWidth > narrow ? "hover" : false;
    return Plotly.newPlot(place, figure.data, figure.layout, { ...config, displayModeBar: buttons });
  }

  function next() {
    const place = waiting.shift();
    if (place === undefined) {
      document.documentElement.dataset.drawn = "true";
      return;
    }
    draw(place).then(() => setTimeout(next));
  }

  window.addEventListener("beforeprint", () => {
    while (waiting.length) draw(waiting.shift());
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  next();
})();
