// A click on a way's name hides its lines, in all plots of its row.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const off = button.classList.toggle("off");
    for (const line of button.closest("section").querySelectorAll("g[data-way]")) {
      if (line.dataset.way === button.dataset.way) line.classList.toggle("off", off);
    }
  });
}
