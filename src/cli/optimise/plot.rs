//! Distortion against bytes: what each budget costs.

use lowkey::optimise::{OptimiseError, Search};
use lowkey::report::human_bytes;

use super::super::plots::svg::{Anchor, At, BLUE, Canvas, GREEN, GREY, INK, Ink, PALE, RED};

/// Budgets that are tried: parts of what the network takes, so many in a whole.
const STEPS: u64 = 24;
const SIZE: At = (640.0, 420.0);
/// Left, top, right, bottom.
const FRAME: [f64; 4] = [78.0, 64.0, 616.0, 372.0];
/// Distortions below this are drawn as this.
const LEAST: f64 = 1e-4;
const SMALL: Ink = Ink::new(12.0, GREY);

/// Bytes and distortion.
#[derive(Clone, Copy, Debug)]
struct Point {
    bytes: u64,
    distortion: f64,
    /// Whether some roundings are by coins.
    tossed: bool,
}

/// Solves for many budgets and draws what they bring; `chosen` are the bytes of those that were asked for.
pub fn draw(search: &Search<'_>, name: &str, chosen: &[u64]) -> Result<String, OptimiseError> {
    let mut points = vec![];
    for step in (1..=STEPS).rev() {
        match search.by_prices(search.whole() * step / STEPS) {
            Ok(found) => {
                let tossed = found.network.architecture().has_coins();
                points.push(Point { bytes: found.bytes, distortion: found.distortion, tossed });
            }
            Err(OptimiseError::Budget { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    points.sort_by_key(|point| point.bytes);
    points.dedup_by_key(|point| point.bytes);
    Ok(picture(name, search.whole(), &points, chosen))
}

fn picture(name: &str, whole: u64, points: &[Point], chosen: &[u64]) -> String {
    let [left, top, right, bottom] = FRAME;
    let title = format!("{name}: distortion against bytes");
    let mut canvas = Canvas::new(SIZE.0, SIZE.1, &title);
    canvas.text(&title, (16.0, 24.0), Anchor::Start, Ink::new(17.0, INK).bold());
    let words = "up, logarithmic: squared change of the outputs over their variance; across: bytes of an inference";
    let coins = if points.iter().any(|point| point.tossed) { "; green: coins" } else { "" };
    canvas.text(&format!("{words}{coins}"), (16.0, 45.0), Anchor::Start, Ink::new(12.0, GREY));
    let highest = points.iter().map(|point| point.distortion).fold(1e-2, f64::max).log10().ceil();
    let x = |bytes: u64| left + (right - left) * bytes as f64 / whole.max(1) as f64;
    let y = |distortion: f64| {
        let part = (distortion.max(LEAST).log10() - LEAST.log10()) / (highest - LEAST.log10());
        bottom - (bottom - top) * part
    };
    for power in LEAST.log10() as i32..=highest as i32 {
        let height = y(10f64.powi(power));
        canvas.line((left, height), (right, height), PALE, 1.0);
        let text = match power {
            ..=-4 => "0.0001 or less".to_owned(),
            -3..0 => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
            _ => format!("{}", 10f64.powi(power)),
        };
        canvas.text(&text, (left - 6.0, height), Anchor::End, SMALL);
    }
    for quarter in 0..=4 {
        let at = x(whole * quarter / 4);
        canvas.line((at, top), (at, bottom), PALE, 1.0);
        let text = format!("{} %", 25 * quarter);
        canvas.text(&text, (at, bottom + 14.0), Anchor::Middle, SMALL);
        canvas.text(&human_bytes(whole * quarter / 4), (at, bottom + 30.0), Anchor::Middle, SMALL);
    }
    canvas.path(&[(left, top), (left, bottom), (right, bottom)], GREY, 1.0);
    let places: Vec<At> = points.iter().map(|point| (x(point.bytes), y(point.distortion))).collect();
    canvas.path(&places, BLUE, 2.0);
    for (point, place) in points.iter().zip(places) {
        let colour = if point.tossed { GREEN } else { BLUE };
        canvas.disc(place, if chosen.contains(&point.bytes) { RED } else { colour });
    }
    canvas.svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_where_their_bytes_and_distortions_are() {
        let tossed = Point { bytes: 75, distortion: 0.1, tossed: true };
        let [dear, cheap] =
            [(100, 0.0), (50, 1.0)].map(|(bytes, distortion)| Point { bytes, distortion, tossed: false });
        assert!(picture("a", 100, &[cheap, tossed, dear], &[50]).contains("green: coins"));
        let svg = picture("a", 100, &[cheap, dear], &[50]);
        assert!(!svg.contains("coins"), "{svg}");
        // Half of the width at the top, all of it at the bottom.
        assert!(svg.contains("points=\"347,64 616,372\""), "{svg}");
        assert!(svg.contains("cx=\"347\" cy=\"64\"") && svg.contains("a: distortion against bytes"), "{svg}");
        assert!(svg.contains(">100 %<") && svg.contains(">0.01<"), "{svg}");
    }
}
