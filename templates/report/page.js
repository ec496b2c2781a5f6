// Draw the plots. vl-convert bundles this with Vega, Vega-Lite and Vega-Embed, whose names are in scope.
const page = document.documentElement;
const { config, charts } = JSON.parse(document.getElementById("charts").textContent);
const options = {
  actions: false, // they would lead to other sites
  ast: true, // the policy of the page does not allow code made from text
  config,
  defaultStyle: false,
  mode: "vega-lite",
  renderer: "svg",
  tooltip: { disableDefaultStyle: true },
};

async function draw(element) {
  await vegaEmbed(element, charts[element.dataset.chart], options);
}

Promise.all([...document.querySelectorAll("[data-chart]")].map(draw)).then(
  () => {
    page.dataset.state = "drawn";
  },
  (error) => {
    page.dataset.state = "failed";
    console.error(error);
  },
);
