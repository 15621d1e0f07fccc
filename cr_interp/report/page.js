// Unpacks the drawing library that this file carries, draws the figures, and keeps a still picture of each for print.
(async () => {
  const say = (text) => document.querySelectorAll(".waiting").forEach((each) => { each.textContent = text })
  const text = (id) => document.getElementById(id).textContent
  try {
    const packed = Uint8Array.from(atob(text("plotly")), (letter) => letter.charCodeAt(0))
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))
    const script = document.createElement("script")
    script.textContent = await new Response(stream).text()
    document.head.append(script)
    for (const figure of document.querySelectorAll("figure[data-figure]")) {
      const {data, layout} = JSON.parse(text(figure.dataset.figure))
      const plot = figure.querySelector(".plot")
      plot.textContent = ""
      await Plotly.newPlot(plot, data, layout, {displaylogo: false, responsive: true})
      const still = await Plotly.toImage(plot, {format: "svg", width: Math.max(760, +figure.dataset.least), height: layout.height})
      figure.querySelector(".printed").src = still
      figure.classList.add("has-print")
    }
    document.documentElement.dataset.drawn = "yes"
  } catch (error) {
    say("This figure needs a browser of 2023 or later; its numbers are in the table beside it.")
    document.documentElement.dataset.drawn = "no: " + error
  }
})()
// What is folded is printed open.
const folded = () => document.querySelectorAll("details:not([open])")
let opened = []
addEventListener("beforeprint", () => { opened = [...folded()]; opened.forEach((each) => { each.open = true }) })
addEventListener("afterprint", () => { opened.forEach((each) => { each.open = false }) })
