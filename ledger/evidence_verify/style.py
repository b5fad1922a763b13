"""How the report looks, on a screen and on paper."""

STYLE = """
@page { size: A4; margin: 18mm 16mm }
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 15px/1.5 Georgia, "Times New Roman", serif; color: #1a1d21; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin: 0 0 .2rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem;
  padding-bottom: .2rem; border-bottom: 2px solid #1a1d21; break-after: avoid }
p { margin: .4rem 0 } ul { margin: .4rem 0; padding-left: 1.2rem } li { margin: .3rem 0 }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .88rem }
th, td { text-align: left; vertical-align: top; padding: .38rem .5rem;
  border-bottom: 1px solid #d5d9de }
th { font-family: system-ui, sans-serif; font-size: .74rem; color: #4a525b; letter-spacing: .02em }
thead { display: table-header-group } tr { break-inside: avoid }
td.n { white-space: nowrap; font-variant-numeric: tabular-nums } td.r { text-align: right }
code { font: .82em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
td { overflow-wrap: anywhere } section > p { break-after: avoid }
pre { font: .8rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; background: #f5f6f8; border: 1px solid #d5d9de; padding: .6rem .8rem }
.lead { font-size: 1.02rem; color: #4a525b }
.warn { border: 2px solid #8a1c1c; padding: .5rem .8rem }
.g { display: inline-block; font: 600 .7rem/1.35 system-ui, sans-serif; padding: .1rem .45rem;
  border: 1px solid #8a929b; border-radius: .7rem; white-space: nowrap }
.proven { background: #e2f2e6; border-color: #3f7d52 }
.attested-by-counterparty { background: #e4edfa; border-color: #3f65a0 }
.attested-by-provider { background: #fdf1d8; border-color: #a5782a }
.rpc-testimony { background: #efe8f7; border-color: #71529a }
.says { display: grid; grid-template-columns: 1fr auto; gap: .15rem .7rem; align-items: start }
.says span { overflow-wrap: anywhere; justify-self: start }
.says .g { justify-self: end }
.g { overflow-wrap: normal }
.wide { table-layout: fixed } .narrow { width: auto; min-width: 20rem }
.when { width: 6.2rem } .no { width: 3rem } .who { width: 8.5rem } .sum { width: 9rem }
.stands { width: 4.5rem } .grade { width: 9.5rem } .files { width: 15rem }
.wide code { font-size: .74em }
dl { display: grid; grid-template-columns: 11rem 1fr; gap: .25rem .8rem; margin: .5rem 0 }
dt { font: .8rem/1.7 system-ui, sans-serif; color: #4a525b }
dd { margin: 0; overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 10.5pt } }
"""
