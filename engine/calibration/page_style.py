"""How the report's page looks."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --rule: #d8dee4;
  --dot: #0969da; --cut: #bc4c00; --proposal: #8250df; --band: #8250df22; --tolerance: #1a7f3722;
  --good: #1a7f37; --alarm: #cf222e; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #0d1117;
  --ink: #e6edf3; --soft: #9198a1; --rule: #30363d; --dot: #58a6ff; --cut: #f0883e;
  --proposal: #bc8cff; --band: #bc8cff33;
  --tolerance: #3fb95033; --good: #3fb950; --alarm: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 32px 20px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; text-wrap: balance; }
h2 { font-size: 18px; margin: 36px 0 6px; }
.kind { color: var(--soft); margin: 0 0 4px; }
.unchanged { margin: 0; font-weight: 600; color: var(--good); }
.aside { color: var(--soft); margin: 0 0 10px; max-width: 68ch; }
figure { margin: 0; }
svg { max-width: 100%; height: auto; display: block; }
.panels > svg { display: inline-block; margin: 0 14px 14px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: 8px 0; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
  min-width: 6ch; }
th { color: var(--soft); font-weight: 600; overflow-wrap: normal; }
td.good { color: var(--good); font-weight: 600; }
td.waiting { color: var(--alarm); }
pre { font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere;
  border: 1px solid var(--rule); padding: 12px; }
footer { margin-top: 40px; border-top: 1px solid var(--rule); color: var(--soft); font-size: 13px;
  overflow-wrap: anywhere; }
ul { padding-left: 20px; }
text { font: 11px system-ui, sans-serif; fill: var(--ink); }
text.tick { fill: var(--soft); font-size: 10px; }
text.head { font-weight: 600; font-size: 12px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.equal { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; fill: none; }
.dot { fill: var(--dot); fill-opacity: .55; }
.cut { fill: none; stroke: var(--cut); stroke-width: 1.3; }
.band { fill: var(--band); }
.proposal { stroke: var(--proposal); stroke-width: 2.4; fill: none; }
.interval { stroke: var(--proposal); stroke-width: 6; stroke-opacity: .45; }
.tolerance { fill: var(--tolerance); }
.average { stroke: var(--ink); stroke-width: 1.6; fill: none; }
.alarm { stroke: var(--alarm); stroke-width: 1.6; }
.bar { fill: var(--cut); fill-opacity: .75; }
@media print { :root { color-scheme: light; } main { max-width: none; padding: 0; }
  figure, svg, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""
