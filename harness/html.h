/* Writing HTML and SVG: escaped text, and plots with axes. Everything goes to a stream; nothing is
 * fetched by the page. */
#ifndef ASSAY_HARNESS_HTML_H
#define ASSAY_HARNESS_HTML_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Text with &, <, > and quotes escaped; NULL prints nothing. Bytes that are not UTF-8 are the
 * caller's to avoid. */
void html_text(FILE *out, const char *text);

/* Opens the document, with its style for light, dark, narrow and printed pages; closes it. */
void html_begin(FILE *out, const char *title);
void html_end(FILE *out);

/* A heading that begins a section with an id. */
void html_section(FILE *out, const char *id, const char *title);
void html_section_end(FILE *out);

/* One direction of a plot: values from low to high lie between the pixels from and to. */
struct axis {
    double low, high;
    double from, to;
    bool logarithmic;
};

/* Pixels of a value; values outside are put at the ends. */
double axis_place(const struct axis *axis, double value);

/* Makes room around [low, high] and rounds: for a logarithmic axis to factors of `factor`. */
struct axis axis_around(double low, double high, bool logarithmic, double from, double to);

/* Round values on the axis, at most `most` (<= 32) of them; returns how many. */
int axis_ticks(const struct axis *axis, int most, double *ticks);

/* A short number: 0.001, 12, 1500 -> "1.5k". */
const char *short_number(double value, char *text, size_t size);

/* An SVG of width x height user units that scales with the page; `label` is what a reader hears. */
void svg_begin(FILE *out, int width, int height, const char *label);
void svg_end(FILE *out);

/* The frame of a plot: axes with ticks and titles, grid lines. Without x_title no ticks along x. */
void svg_axes(FILE *out, const struct axis *x, const struct axis *y, const char *x_title,
              const char *y_title);
void svg_line(FILE *out, const char *cls, double x1, double y1, double x2, double y2);
/* anchor: "start", "middle" or "end". */
void svg_text(FILE *out, const char *cls, const char *anchor, double x, double y, const char *text);

/* Colours of the plots, by index: CSS classes c0 .. c7, each with a mark of its own. */
#define PLOT_COLOURS 8
void svg_mark(FILE *out, int colour, double x, double y, const char *title);

#endif
