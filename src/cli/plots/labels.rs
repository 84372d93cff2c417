//! Where the names of points go: beside them, and on nothing else.

use super::svg::{Anchor, At, Ink};

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Area {
    /// About a point.
    pub fn around((x, y): At, half: f64) -> Self {
        Self { left: x - half, top: y - half, right: x + half, bottom: y + half }
    }

    /// How many square pixels both have.
    fn shared(self, other: Self) -> f64 {
        let wide = self.right.min(other.right) - self.left.max(other.left);
        let high = self.bottom.min(other.bottom) - self.top.max(other.top);
        wide.max(0.0) * high.max(0.0)
    }

    fn has(self, (x, y): At) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    /// From a point to the nearest of its own.
    fn distance(self, (x, y): At) -> f64 {
        apart((x, y), (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom)))
    }

    fn size(self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

/// A text that has found its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub at: At,
    pub anchor: Anchor,
    pub covers: Area,
    /// So far from its point that a line has to join them: from there to here.
    pub leader: Option<[At; 2]>,
    /// How bad the place is.
    cost: f64,
}

/// What must stay free, and what has been placed.
#[derive(Clone)]
pub struct Places {
    pub frame: Area,
    pub taken: Vec<Area>,
    /// Points of lines that texts had better not cross.
    pub lines: Vec<At>,
    /// All points that have names: a name should be nearest to its own.
    pub points: Vec<At>,
}

impl Places {
    /// Finds places for the names of some points, in the order of the names: whichever is placed first has the choice, and the best of
    /// all orders is taken; of many names one order alone.
    pub fn place(&mut self, names: &[(String, At, Ink)]) -> Vec<Placed> {
        let mut best: Option<(f64, Vec<Option<Placed>>, Places)> = None;
        for order in orders(names.len()) {
            let (mut places, mut placed, mut cost) = (self.clone(), vec![None; names.len()], 0.0);
            for index in order {
                let (text, point, ink) = &names[index];
                let one = places.place_at_one(text, &[*point], *ink);
                cost += one.cost;
                placed[index] = Some(one);
            }
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, placed, places));
            }
        }
        let (_, placed, places) = best.expect("there is an order");
        *self = places;
        placed.into_iter().flatten().collect()
    }

    /// Finds a place for the name of a line, which may stand at any of some points.
    pub fn place_at_one(&mut self, text: &str, points: &[At], ink: Ink) -> Placed {
        let all = points.iter().flat_map(|&point| {
            let near = candidates(point, ink.width(text), ink.size);
            near.into_iter().map(move |candidate| (point, candidate))
        });
        let costs = all.map(|(point, candidate)| Placed { cost: self.cost(&candidate, point), ..candidate });
        let placed = costs.min_by(|one, other| one.cost.total_cmp(&other.cost)).expect("there are candidates");
        self.taken.push(placed.covers);
        if let Some([from, to]) = placed.leader {
            self.lines.extend(along(from, to));
        }
        placed
    }

    fn cost(&self, candidate: &Placed, point: At) -> f64 {
        let covers = candidate.covers;
        let outside = covers.size() - covers.shared(self.frame);
        let on_others: f64 = self.taken.iter().map(|taken| covers.shared(*taken)).sum();
        let on_lines = self.lines.iter().filter(|&&at| covers.has(at)).count() as f64;
        let own = covers.distance(point);
        let nearer = self.points.iter().filter(|&&other| other != point && covers.distance(other) < own + 5.0).count();
        let leader = candidate.leader.map_or(0.0, |[from, to]| {
            let way = along(from, to);
            let met = |area: &Area| way.iter().any(|&at| area.has(at));
            let lines = self.lines.iter().filter(|line| way.iter().any(|at| apart(*at, **line) < 2.0)).count();
            20.0 + 60.0 * self.taken.iter().filter(|area| met(area)).count() as f64 + 4.0 * lines as f64
        });
        let (x, y) = ((covers.left + covers.right) / 2.0, (covers.top + covers.bottom) / 2.0);
        let far = apart((x, y), point);
        outside * 100.0 + on_others * 100.0 + on_lines * 60.0 + far + leader + 40.0 * nearer as f64
    }
}

fn apart(one: At, other: At) -> f64 {
    let (across, down) = (one.0 - other.0, one.1 - other.1);
    // `hypot` ties what links it to a younger C library: its symbol of glibc 2.35.
    (across * across + down * down).sqrt()
}

/// All orders of up to six; of more one alone.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count > 6 {
        return vec![(0..count).collect()];
    }
    let mut all = vec![Vec::new()];
    for next in 0..count {
        let grown = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| [&order[..at], &[next], &order[at..]].concat())
        };
        all = all.iter().flat_map(grown).collect();
    }
    all
}

/// Points of a line, some three pixels apart.
pub fn along(from: At, to: At) -> Vec<At> {
    let steps = (apart(from, to) / 3.0).ceil().max(1.0);
    let parts = (0..=steps as i32).map(|i| f64::from(i) / steps);
    parts.map(|part| (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)).collect()
}

/// Directions about a point, near and far.
fn candidates(point: At, width: f64, height: f64) -> Vec<Placed> {
    let mut all = Vec::new();
    for radius in [9.0, 15.0, 22.0, 32.0, 44.0, 58.0] {
        for (dx, dy) in [(1, 0), (0, -1), (-1, 0), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)] {
            let anchor = match dx {
                1 => Anchor::Start,
                0 => Anchor::Middle,
                _ => Anchor::End,
            };
            let (dx, dy) = (f64::from(dx), f64::from(dy));
            // Corners are as far away as sides.
            let reach = if dx != 0.0 && dy != 0.0 { radius * 0.75 } else { radius };
            let (x, y) = (point.0 + dx * reach, point.1 + dy * (reach + height / 3.0));
            let left = match anchor {
                Anchor::Start => x,
                Anchor::Middle => x - width / 2.0,
                Anchor::End => x - width,
            };
            let half = height / 2.0 + 1.0;
            let covers = Area { left: left - 1.0, top: y - half, right: left + width + 1.0, bottom: y + half };
            let leader = (radius > 15.0)
                .then(|| [(point.0 + dx * 6.0, point.1 + dy * 6.0), (x - dx * 2.0, y - dy * height / 2.0)]);
            all.push(Placed { at: (x, y), anchor, covers, leader, cost: 0.0 });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::svg::INK;
    use super::*;

    #[test]
    fn names_of_a_crowd_do_not_meet() {
        let frame = Area { left: 0.0, top: 0.0, right: 300.0, bottom: 200.0 };
        let points: Vec<At> = (0..7).map(|i| (150.0 + 4.0 * f64::from(i), 100.0 + 3.0 * f64::from(i % 3))).collect();
        let taken = points.iter().map(|&at| Area::around(at, 5.0)).collect();
        let mut places = Places { frame, taken, lines: Vec::new(), points: points.clone() };
        let names: Vec<_> = points.iter().map(|&at| ("w4".to_owned(), at, Ink::new(13.0, INK))).collect();
        let placed = places.place(&names);
        assert_eq!(placed.len(), 7);
        for (index, one) in placed.iter().enumerate() {
            assert!((one.covers.shared(frame) - one.covers.size()).abs() < 1e-9, "{one:?}");
            assert!(points.iter().all(|&at| one.covers.shared(Area::around(at, 5.0)) == 0.0), "{one:?}");
            assert!(placed[..index].iter().all(|other| other.covers.shared(one.covers) == 0.0), "{one:?}");
        }
    }

    /// Above a point that a line goes up from there is no place; beside it there is.
    #[test]
    fn a_name_does_not_stand_on_a_line() {
        let frame = Area { left: 0.0, top: 0.0, right: 300.0, bottom: 200.0 };
        let (from, point, to) = ((20.0, 180.0), (150.0, 100.0), (280.0, 20.0));
        let lines = [along(from, point), along(point, to)].concat();
        let taken = [from, point, to].map(|at| Area::around(at, 6.0)).to_vec();
        let mut places = Places { frame, taken, lines: lines.clone(), points: vec![from, point, to] };
        let names = [from, point, to].map(|at| ("w2".to_owned(), at, Ink::new(13.0, INK)));
        for placed in places.place(&names) {
            assert!(!lines.iter().any(|&at| placed.covers.has(at)), "{placed:?}");
        }
    }

    #[test]
    fn orders_are_all_there() {
        let mut all = orders(4);
        assert_eq!((orders(0).len(), all.len(), orders(7).len()), (1, 24, 1));
        all.sort();
        all.dedup();
        assert!(all.len() == 24 && all.iter().all(|order| (0..4).all(|i| order.contains(&i))));
    }

    #[test]
    fn alone_a_name_stands_beside_its_point() {
        let frame = Area { left: 0.0, top: 0.0, right: 300.0, bottom: 200.0 };
        let point = (50.0, 50.0);
        let mut places =
            Places { frame, taken: vec![Area::around(point, 5.0)], lines: Vec::new(), points: vec![point] };
        let placed = places.place(&[("w1".to_owned(), point, Ink::new(13.0, INK))])[0];
        assert!(placed.leader.is_none() && placed.covers.distance(point) < 10.0, "{placed:?}");
        assert!(placed.covers.shared(Area::around(point, 5.0)) == 0.0, "{placed:?}");
    }
}
