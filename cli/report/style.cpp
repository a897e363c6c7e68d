#include "cli/report/style.h"

namespace switchyard::cli::report {

// Text has a contrast of at least 4.5 to its ground, lines of 3. No two of the first six colours
// (after Okabe and Ito) look alike to the colour-blind, and every line has its name at its end.
const char* const kChartStyle = R"(
:root{color-scheme:light dark;--ground:#fff;--ink:#1b1f24;--soft:#57606a;--rule:#d8dee4;
--c0:#0067b1;--c1:#b34700;--c2:#00745a;--c3:#a03a7c;--c4:#806000;--c5:#4b5bb8;--c6:#a3262a;--c7:#3f6b1e}
@media(prefers-color-scheme:dark){:root{--ground:#12161c;--ink:#e6eaef;--soft:#9aa5b1;--rule:#2d343d;
--c0:#5cb8f2;--c1:#f59a56;--c2:#3fc9a2;--c3:#e48fc4;--c4:#e0c050;--c5:#9fabf5;--c6:#f58a8a;--c7:#9ccb72}}
.ground{fill:var(--ground)}
svg text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;fill:var(--ink)}
svg .title{font-size:13px;font-weight:600}
svg .tick,svg .name{fill:var(--soft)}
svg .x{text-anchor:middle}
svg .y{text-anchor:end}
svg path{fill:none}
.grid{stroke:var(--rule)}
.axis{stroke:var(--soft)}
.leader{stroke:var(--soft);stroke-width:.6}
.line path{stroke-width:2;stroke-linejoin:round}
.floor path{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:4 3}
svg .label.floor{fill:var(--soft)}
.c0 path{stroke:var(--c0)}.c0 circle,svg .label.c0{fill:var(--c0)}
.c1 path{stroke:var(--c1)}.c1 circle,svg .label.c1{fill:var(--c1)}
.c2 path{stroke:var(--c2)}.c2 circle,svg .label.c2{fill:var(--c2)}
.c3 path{stroke:var(--c3)}.c3 circle,svg .label.c3{fill:var(--c3)}
.c4 path{stroke:var(--c4)}.c4 circle,svg .label.c4{fill:var(--c4)}
.c5 path{stroke:var(--c5)}.c5 circle,svg .label.c5{fill:var(--c5)}
.c6 path{stroke:var(--c6)}.c6 circle,svg .label.c6{fill:var(--c6)}
.c7 path{stroke:var(--c7)}.c7 circle,svg .label.c7{fill:var(--c7)}
)";

const char* const kPageStyle = R"(
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:84rem;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.2rem;margin:2.5rem 0 .25rem;padding-top:.5rem;border-top:1px solid var(--rule)}
p,ul{max-width:46rem;margin:.25rem 0 .75rem}
ul{padding-left:1.2rem}
a{color:var(--c0)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:1rem 0}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,23rem),1fr));gap:1.25rem}
figure{margin:0;min-width:0}
figure.wide{grid-column:1/-1}
figure:has(details[open]){grid-column:1/-1}
figure svg{display:block;width:100%;max-width:32rem;height:auto}
figcaption,caption{font-weight:600;text-align:left;padding:.25rem 0}
summary{cursor:pointer;color:var(--c0);font-size:.9rem;padding:.35rem 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{font-weight:600}
thead th{color:var(--soft)}
tbody th,thead th:first-child{text-align:left;position:sticky;left:0;background:var(--ground)}
.words{text-align:left;white-space:normal}
td.words:not(:empty){min-width:22rem}
td[class^="e"],td.v,td.none{text-align:center;min-width:3rem;border:1px solid var(--ground)}
.slower{color:var(--c1);font-weight:600}
.faster{color:var(--c2);font-weight:600}
td.v,th.v{font-weight:600;color:var(--ground)}
.v.c0{background:var(--c0)}.v.c1{background:var(--c1)}.v.c2{background:var(--c2)}.v.c3{background:var(--c3)}
.v.c4{background:var(--c4)}.v.c5{background:var(--c5)}.v.c6{background:var(--c6)}.v.c7{background:var(--c7)}
.e0,.e1,.e2,.e3,.e4{color:#1b1f24}
.e5,.e6,.e7,.e8,.e9{color:#fff}
.e0{background:#f3f7fb}.e1{background:#e3edf7}.e2{background:#d0e2f1}.e3{background:#b7d3ea}.e4{background:#97c0e0}
.e5{background:#3f7fb5}.e6{background:#2f70a8}.e7{background:#1f5f98}.e8{background:#104d84}.e9{background:#063868}
@media(prefers-color-scheme:dark){
.e0,.e1,.e2,.e3,.e4{color:#e6eaef}
.e5,.e6,.e7,.e8,.e9{color:#0b0f14}
.e0{background:#171d26}.e1{background:#1a2735}.e2{background:#1d3145}.e3{background:#203c57}.e4{background:#24486a}
.e5{background:#4d8fc4}.e6{background:#62a2d6}.e7{background:#7ab5e5}.e8{background:#97c8f0}.e9{background:#b8dcf8}
}
footer{margin-top:2.5rem;border-top:1px solid var(--rule);color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
@media(max-width:40rem){
th,td{padding:.3rem}
tbody th{white-space:normal}
figure.wide tbody th:not(.v){min-width:7.6rem}
td[class^="e"],td.v,td.none{min-width:2.5rem}
td.words:not(:empty){min-width:13rem}
}
)";

}  // namespace switchyard::cli::report
