//! The width study as plots, each as SVG and as PNG.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Once;

use lowkey::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use super::rows::Row;

/// Name under which the font is known to the plotting library.
const FONT: &str = "sans-serif";

/// One colour per family, readable for the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

type Drawn = Result<(), Box<dyn StdError>>;
type Area<'a, B> = DrawingArea<B, Shift>;

/// Draws all plots into a folder; the files written.
pub fn draw(rows: &[Row], folder: &Path) -> Result<Vec<PathBuf>> {
    register_font();
    let mut written = Vec::new();
    let height = 140 + 34 * rows.len() as u32;
    for (name, size) in
        [("bytes", (900, 560)), ("time", (900, 560)), ("stages", (900, height)), ("parameters", (1100, height))]
    {
        for end in ["svg", "png"] {
            let path = folder.join(format!("{name}.{end}"));
            let drawn = match end {
                "svg" => plot(name, rows, &SVGBackend::new(&path, size).into_drawing_area()),
                _ => plot(name, rows, &BitMapBackend::new(&path, size).into_drawing_area()),
            };
            drawn.map_err(|error| Error::file(&path, std::io::Error::other(error.to_string())))?;
            written.push(path);
        }
    }
    Ok(written)
}

/// The library has no fonts of its own; this one comes with a crate.
fn register_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            let _ = plotters::style::register_font(FONT, style, epaint_default_fonts::UBUNTU_LIGHT);
        }
    });
}

fn plot<B: DrawingBackend>(name: &str, rows: &[Row], area: &Area<'_, B>) -> Drawn
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    match name {
        "bytes" => scatter(rows, area, "kB per image, offline and online", |row| row.bytes() / 1e3)?,
        "time" => scatter(rows, area, "ms per image, offline and online, loopback", Row::ms)?,
        "stages" => stages(rows, area)?,
        _ => parameters(rows, area)?,
    }
    area.present()?;
    Ok(())
}

/// "mnist-hcnn" of "mnist-hcnn-w2a2".
fn family(row: &Row) -> &str {
    let name = row.network.trim_end_matches(" at 32 bits");
    name.rsplit_once("-w").map_or(name, |(family, _)| family)
}

/// Accuracy against a cost; one line per family, one point per width.
fn scatter<B: DrawingBackend>(rows: &[Row], area: &Area<'_, B>, cost: &str, of: impl Fn(&Row) -> f64) -> Drawn
where
    B::ErrorType: 'static,
{
    let costs: Vec<f64> = rows.iter().map(&of).collect();
    // Families lie a factor of ten apart. An axis that starts at a power of ten has all its ticks.
    let least = costs.iter().copied().fold(f64::MAX, f64::min).max(1e-3) * 0.95;
    let least = 10f64.powf(least.log10().floor());
    let most = costs.iter().copied().fold(least, f64::max) * 1.5;
    let low = rows.iter().map(|row| row.accuracy).fold(100.0, f64::min).floor() - 0.5;
    let high = rows.iter().map(|row| row.accuracy).fold(0.0, f64::max).ceil().min(100.0) + 0.2;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(46)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most).log_scale(), low..high)?;
    chart
        .configure_mesh()
        .x_desc(cost)
        .y_desc("accuracy in percent, integer network")
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .x_label_formatter(&tick)
        .draw()?;
    let mut families: Vec<&str> = Vec::new();
    rows.iter().map(family).for_each(|family| {
        if !families.contains(&family) {
            families.push(family);
        }
    });
    for (index, name) in families.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = |straightforward: bool| {
            let of = &of;
            let mine = rows.iter().filter(move |row| family(row) == *name && row.straightforward == straightforward);
            let mut points: Vec<(u32, (f64, f64))> = mine.map(|row| (row.bits, (of(row), row.accuracy))).collect();
            points.sort_by_key(|point| point.0);
            points
        };
        let line = LineSeries::new(points(false).into_iter().map(|point| point.1), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        chart.draw_series(points(false).into_iter().map(|(bits, at)| {
            EmptyElement::at(at)
                + Circle::new((0, 0), 4, colour.filled())
                + Text::new(format!("{bits}"), (7, 3), (FONT, 14).into_font().color(&colour))
        }))?;
        chart.draw_series(points(true).into_iter().map(|(_, at)| {
            EmptyElement::at(at)
                + TriangleMarker::new((0, 0), 6, colour.filled())
                + Text::new("32-bit integers", (-46, 10), (FONT, 14).into_font().color(&colour))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 15))
        .draw()?;
    Ok(())
}

/// Bytes of both stages, stacked, a bar per network.
fn stages<B: DrawingBackend>(rows: &[Row], area: &Area<'_, B>) -> Drawn
where
    B::ErrorType: 'static,
{
    let most = rows.iter().map(Row::bytes).fold(1.0, f64::max) / 1e3 * 1.12;
    let count = rows.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(46)
        .y_label_area_size(230)
        .build_cartesian_2d(0.0..most, 0.0..count)?;
    chart
        .configure_mesh()
        .x_desc("kB per image")
        .disable_y_mesh()
        .disable_y_axis()
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .draw()?;
    let [offline, online] = [COLOURS[4], COLOURS[1]];
    for (label, colour) in [("offline", offline), ("online", online)] {
        let bars = rows.iter().enumerate().map(|(index, row)| {
            let top = count - index as f64;
            let (from, to) = match label {
                "offline" => (0.0, row.offline.bytes / 1e3),
                _ => (row.offline.bytes / 1e3, row.bytes() / 1e3),
            };
            Rectangle::new([(from, top - 0.85), (to, top - 0.15)], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
    }
    let totals = rows.iter().enumerate().map(|(index, row)| {
        let at = (row.bytes() / 1e3, count - index as f64 - 0.5);
        EmptyElement::at(at) + Text::new(format!("{:.0}", row.bytes() / 1e3), (5, -7), (FONT, 14).into_font())
    });
    chart.draw_series(totals)?;
    names(rows, area, chart.plotting_area().get_pixel_range(), 230)?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 15))
        .draw()?;
    Ok(())
}

/// The label of a tick of a logarithmic axis; those between 1, 2 and 5 have none.
fn tick(x: &f64) -> String {
    let digit = x / 10f64.powf(x.log10().floor());
    if [1.0, 2.0, 5.0].iter().all(|labelled| (digit - labelled).abs() > 1e-6) {
        return String::new();
    }
    if *x < 10.0 { format!("{x:.1}") } else { format!("{x:.0}") }
}

/// Names of the networks, right-aligned before `range`, one per row.
fn names<B: DrawingBackend>(
    rows: &[Row],
    area: &Area<'_, B>,
    (x, y): (std::ops::Range<i32>, std::ops::Range<i32>),
    width: i32,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let style = (FONT, 15).into_font().color(&BLACK);
    let step = f64::from(y.end - y.start) / rows.len() as f64;
    for (index, row) in rows.iter().enumerate() {
        let (wide, high) = area.estimate_text_size(&row.network, &style)?;
        let left = (x.start - 8 - wide as i32).max(x.start - width + 2);
        let top = y.start + (step * (index as f64 + 0.5)) as i32 - high as i32 / 2;
        area.draw_text(&row.network, &style, (left, top))?;
    }
    Ok(())
}

/// Of a parameter set, torus and N; pale where nothing is encrypted.
fn set_colour(set: Option<(u32, usize)>) -> RGBAColor {
    match set {
        Some((32, 1024)) => COLOURS[2].mix(0.35),
        Some((32, _)) => COLOURS[4].mix(0.45),
        Some((_, 2048)) => COLOURS[5].mix(0.5),
        Some(_) => COLOURS[1].mix(0.55),
        None => BLACK.mix(0.06),
    }
}

/// Torus, N and accumulator of each linear layer: a row of cells per network.
fn parameters<B: DrawingBackend>(rows: &[Row], area: &Area<'_, B>) -> Drawn
where
    B::ErrorType: 'static,
{
    let columns = rows.iter().map(|row| row.layers.len()).max().unwrap_or(0).max(1);
    let (width, height) = area.dim_in_pixel();
    let (left, top, bottom) = (246, 64, 16);
    let cell = f64::from(width as i32 - left - 16) / columns as f64;
    let step = f64::from(height as i32 - top - bottom) / rows.len().max(1) as f64;
    let text = |size: i32| (FONT, size).into_font().color(&BLACK);
    area.draw_text(
        "Each cell: a linear layer, in order. Its torus / N (colour), and the bits of its accumulators.",
        &text(16),
        (left, 14),
    )?;
    for (index, row) in rows.iter().enumerate() {
        let (from, to) = (top + (step * index as f64) as i32, top + (step * (index + 1) as f64) as i32);
        for (column, layer) in row.layers.iter().enumerate() {
            let (start, end) = (left + (cell * column as f64) as i32, left + (cell * (column + 1) as f64) as i32);
            let colour = set_colour(layer.torus_bits.zip(layer.degree));
            area.draw(&Rectangle::new([(start + 1, from + 1), (end - 1, to - 1)], colour.filled()))?;
            let bits = layer.accumulator_bits.map_or(String::new(), |bits| bits.to_string());
            let set = match (layer.torus_bits, layer.degree) {
                (Some(torus), Some(degree)) if cell >= 90.0 => format!("{torus} / {degree}   {bits}"),
                _ => bits,
            };
            area.draw_text(&set, &text(14), (start + 6, (from + to) / 2 - 7))?;
        }
    }
    for (index, (torus, degree)) in [(32, 1024), (32, 2048), (64, 2048), (64, 4096)].into_iter().enumerate() {
        let x = left + 120 * index as i32;
        area.draw(&Rectangle::new([(x, 40), (x + 14, 54)], set_colour(Some((torus, degree))).filled()))?;
        area.draw_text(&format!("{torus} / {degree}"), &text(14), (x + 20, 39))?;
    }
    names(rows, area, (left..width as i32, top..height as i32 - bottom), left)
}
