// What a reader would see as broken on the report's page, as sentences.
() => {
  const flaws = [];
  const wide = window.innerWidth;
  if (document.scrollingElement.scrollWidth > wide)
    flaws.push(`the page is ${document.scrollingElement.scrollWidth} wide`);
  for (const box of document.querySelectorAll('body *')) {
    if (box.closest('.scroll, .real')) continue;   // these scroll in their own box
    const where = box.getBoundingClientRect();
    if (where.width && (where.right > wide + 0.5 || where.left < -0.5))
      flaws.push(`${box.tagName} ${box.className} leaves the page: ${box.textContent.trim().slice(0, 40)}`);
  }
  for (const box of document.querySelectorAll('.scroll, .real'))
    if (getComputedStyle(box).overflowX !== 'auto' || box.tabIndex !== 0)
      flaws.push('a box that scrolls, but not by keyboard');
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const inside = node.parentElement;
    if (inside.closest('.hash, svg, style') || !inside.getClientRects().length) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}.°]+/gu)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map(r => Math.round(r.top)));
      if (tops.size > 1) flaws.push(`a broken word: ${word[0]}`);
    }
  }
  for (const text of document.querySelectorAll('svg text')) {
    const letters = text.getBoundingClientRect(), frame = text.closest('svg').getBoundingClientRect();
    if (letters.left < frame.left - 1 || letters.right > frame.right + 1 ||
        letters.top < frame.top - 1 || letters.bottom > frame.bottom + 1)
      flaws.push(`letters cut by their picture: ${text.textContent}`);
  }
  const luminance = color => {
    const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map(v => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = box => {
    for (; box; box = box.parentElement) {
      const color = getComputedStyle(box).backgroundColor;
      if (!/, 0\)$|transparent/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  for (const box of document.querySelectorAll('body *')) {
    if (![...box.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (box.closest('style') || box.matches('.number')) continue;
    const style = getComputedStyle(box);
    const [one, other] = [luminance(box.closest('svg') ? style.fill : style.color), luminance(behind(box))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) flaws.push(`contrast ${contrast.toFixed(1)}: ${box.textContent.trim().slice(0, 30)}`);
  }
  let level = 0;
  for (const head of document.querySelectorAll('h1, h2, h3, h4')) {
    const now = Number(head.tagName[1]);
    if (now > level + 1) flaws.push(`a heading of level ${now} after ${level}: ${head.textContent}`);
    level = now;
  }
  if (document.querySelectorAll('h1').length !== 1) flaws.push('not one h1');
  for (const picture of document.querySelectorAll('svg:not([aria-hidden])'))
    if (picture.getAttribute('role') !== 'img' || !picture.getAttribute('aria-label'))
      flaws.push('a picture without words');
  for (const link of document.querySelectorAll('a[href^="#"]'))
    if (!document.getElementById(link.hash.slice(1))) flaws.push(`${link.hash} leads nowhere`);
  return [...new Set(flaws)];
}
