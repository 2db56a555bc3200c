// Applies the theme that was chosen before the page is drawn. A classic script in the head, so that nothing flashes.
"use strict";
{
  const chosen = localStorage.getItem("fanout-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.dataset.script = "on";
}
