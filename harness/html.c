#include "harness/html.h"

#include <math.h>
#include <string.h>

void html_text(FILE *out, const char *text)
{
    for (const char *p = text; p && *p; p++)
        switch (*p) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            putc(*p, out);
        }
}

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#59636e;--line:#d4d9df;"
    "--card:#f6f8fa;--good:#116329;--bad:#b3261e;--warn:#8a5a00;--c0:#1f6feb;--c1:#c2410c;"
    "--c2:#15803d;--c3:#9333ea;--c4:#8d7400;--c5:#0e7490;--c6:#be185d;--c7:#4b5563}\n"
    "@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e6e9ee;--soft:#9aa5b1;"
    "--line:#313a45;--card:#171d24;--good:#4ade80;--bad:#ff8078;--warn:#f5c04d;--c0:#6cb0ff;"
    "--c1:#ff9a62;--c2:#5fd38a;--c3:#c79bff;--c4:#f2bd5c;--c5:#5fd0e6;--c6:#ff8dbb;"
    "--c7:#aab4c0}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:16px}h1{font-size:1.5rem;margin:.4em 0}"
    "h2{font-size:1.15rem;margin:1.6em 0 .4em;border-bottom:1px solid var(--line);"
    "padding-bottom:.2em}h3{font-size:1rem;margin:1em 0 .3em}\n"
    "p,figcaption{color:var(--soft);margin:.3em 0}.wide{overflow-x:auto}figure{margin:.5em 0 1.2em}"
    "nav a{margin-right:1em;color:var(--c0)}code{font-family:ui-monospace,Menlo,monospace;"
    "font-size:.92em}\n"
    "table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.28em .6em;border-bottom:1px solid var(--line);"
    "white-space:nowrap}th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right}"
    "td.r{white-space:normal;min-width:16em}\n"
    ".good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn)}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:10px;margin:.8em 0}.tile{background:var(--card);"
    "border:1px solid var(--line);border-radius:8px;padding:.5em .9em;min-width:7em}"
    ".tile b{display:block;font-size:1.35rem}\n"
    "svg{display:block;width:100%;max-width:860px;min-width:560px;height:auto;font-size:12px;"
    "font-family:inherit}svg text{fill:var(--fg)}svg .soft{fill:var(--soft)}"
    ".grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}"
    ".roof{stroke:var(--soft);stroke-width:1.5;fill:none}.limit{stroke:var(--bad);stroke-width:1.5;"
    "stroke-dasharray:5 4}.change{stroke:var(--bad);stroke-width:1.5}"
    ".whisker{stroke:var(--fg);stroke-width:1.5}.bar{fill:var(--c0);opacity:.75}"
    ".bar.c7{fill:var(--c7)}\n"
    ".c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}"
    ".c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}"
    ".mark{fill:var(--c);stroke:var(--bg);stroke-width:1}.path{fill:none;stroke:var(--c);"
    "stroke-width:1.5}.dot{fill:var(--c)}\n"
    "@media (max-width:560px){main{padding:10px}body{font-size:14px}}\n"
    "@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#fff}"
    "body{font-size:10pt}nav{display:none}figure,tr{break-inside:avoid}.wide{overflow:visible}"
    "svg{min-width:0}}\n";

void html_begin(FILE *out, const char *title)
{
    fprintf(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                 "<link rel=\"icon\" href=\"data:,\">\n<title>");
    html_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style></head>\n<body><main>\n", style);
}

void html_end(FILE *out)
{
    fprintf(out, "</main></body></html>\n");
}

void html_section(FILE *out, const char *id, const char *title)
{
    fprintf(out, "<section id=\"%s\"><h2>", id);
    html_text(out, title);
    fprintf(out, "</h2>\n");
}

void html_section_end(FILE *out)
{
    fprintf(out, "</section>\n");
}

double axis_place(const struct axis *a, double value)
{
    double share = a->logarithmic ? log(value / a->low) / log(a->high / a->low)
                                  : (value - a->low) / (a->high - a->low);
    share = share < 0.0 || isnan(share) ? 0.0 : share > 1.0 ? 1.0 : share;
    return a->from + share * (a->to - a->from);
}

struct axis axis_around(double low, double high, bool logarithmic, double from, double to)
{
    struct axis a = {low, high, from, to, logarithmic};
    if (logarithmic) {
        a.low = pow(10.0, floor(2.0 * log10(low)) / 2.0);
        a.high = pow(10.0, ceil(2.0 * log10(high)) / 2.0);
        if (!(a.high > a.low))
            a.high = 10.0 * a.low;
    } else if (!(high > low)) {
        a.high = low + (low != 0.0 ? fabs(low) : 1.0);
    }
    return a;
}

int axis_ticks(const struct axis *a, int most, double *ticks)
{
    int n = 0;
    if (a->logarithmic) {
        const int first = (int)ceil(log10(a->low) - 1e-9), last = (int)floor(log10(a->high) + 1e-9);
        const int step = (last - first) / most + 1;
        static const double between[] = {1.0, 2.0, 5.0};
        for (int e = first - 1; e <= last && last - first < 2; e++)
            for (int k = 0; k < 3 && n < most; k++) {
                const double v = between[k] * pow(10.0, e);
                if (v >= a->low * (1.0 - 1e-9) && v <= a->high * (1.0 + 1e-9))
                    ticks[n++] = v;
            }
        for (int e = first; e <= last && n < most && last - first >= 2; e += step)
            ticks[n++] = pow(10.0, e);
        return n;
    }
    const double raw = (a->high - a->low) / most, unit = pow(10.0, floor(log10(raw)));
    const double step = raw <= unit       ? unit
                        : raw <= 2 * unit ? 2 * unit
                        : raw <= 5 * unit ? 5 * unit
                                          : 10 * unit;
    for (double v = ceil(a->low / step - 1e-9) * step; v <= a->high * (1.0 + 1e-12) && n < most + 1;
         v += step)
        ticks[n++] = fabs(v) < 1e-9 * step ? 0.0 : v;
    return n;
}

const char *short_number(double v, char *text, size_t size)
{
    const double m = fabs(v);
    if (m >= 1e6)
        snprintf(text, size, "%.4gM", v * 1e-6);
    else if (m >= 1e3)
        snprintf(text, size, "%.4gk", v * 1e-3);
    else if (m >= 1e-3 || m == 0.0)
        snprintf(text, size, "%.4g", v);
    else
        snprintf(text, size, "%.0e", v);
    return text;
}

void svg_begin(FILE *out, int width, int height, const char *label)
{
    fprintf(out, "<div class=\"wide\"><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width,
            height);
    html_text(out, label);
    fprintf(out, "\">\n");
}

void svg_end(FILE *out)
{
    fprintf(out, "</svg></div>\n");
}

void svg_line(FILE *out, const char *cls, double x1, double y1, double x2, double y2)
{
    fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", cls, x1,
            y1, x2, y2);
}

void svg_text(FILE *out, const char *cls, const char *anchor, double x, double y, const char *text)
{
    fprintf(out, "<text class=\"%s\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", cls, anchor, x, y);
    html_text(out, text);
    fprintf(out, "</text>\n");
}

void svg_axes(FILE *out, const struct axis *x, const struct axis *y, const char *x_title,
              const char *y_title)
{
    double ticks[34];
    char text[32];
    int n = x_title ? axis_ticks(x, 8, ticks) : 0;
    for (int i = 0; i < n; i++) {
        const double at = axis_place(x, ticks[i]);
        svg_line(out, "grid", at, y->from, at, y->to);
        svg_text(out, "soft", "middle", at, y->from + 16,
                 short_number(ticks[i], text, sizeof text));
    }
    n = axis_ticks(y, 6, ticks);
    const double left = x->from, right = x->to;
    for (int i = 0; i < n; i++) {
        const double at = axis_place(y, ticks[i]);
        svg_line(out, "grid", left, at, right, at);
        svg_text(out, "soft", "end", left - 6, at + 4, short_number(ticks[i], text, sizeof text));
    }
    svg_line(out, "axis", left, y->from, right, y->from);
    svg_line(out, "axis", left, y->from, left, y->to);
    if (x_title)
        svg_text(out, "soft", "end", right, y->from + 32, x_title);
    if (y_title)
        svg_text(out, "soft", "start", 4, y->to - 8, y_title);
}

/* Colour is never the only difference. */
void svg_mark(FILE *out, int colour, double x, double y, const char *title)
{
    const int c = colour % PLOT_COLOURS;
    fprintf(out, "<g class=\"c%d\">", c);
    switch (c % 4) {
    case 0:
        fprintf(out, "<circle class=\"mark\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\">", x, y);
        break;
    case 1:
        fprintf(out, "<rect class=\"mark\" x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\">",
                x - 5, y - 5);
        break;
    case 2:
        fprintf(out, "<path class=\"mark\" d=\"M%.1f %.1fl6 11h-12z\">", x, y - 7);
        break;
    default:
        fprintf(out, "<path class=\"mark\" d=\"M%.1f %.1fl6 6l-6 6l-6-6z\">", x, y - 6);
    }
    fprintf(out, "<title>");
    html_text(out, title);
    fprintf(out, "</title></%s></g>\n", c % 4 == 0 ? "circle" : c % 4 == 1 ? "rect" : "path");
}
