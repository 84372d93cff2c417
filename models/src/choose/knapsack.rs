//! One option for each variable, at the least distortion whose cost is within a budget: the multiple-choice knapsack, exactly.
//!
//! Distortions add up over variables. Costs are sums over *factors*, each of which depends on a few variables: narrowing a tensor moves
//! bytes to the layers around it. Variables are decided in order; what has to be remembered of those before are the ones that later factors
//! still ask for, the *state*. Two partial decisions with one state are compared by bytes and distortion, and the worse one of the two,
//! if it is worse in both, is dropped.
//!
//! Many are left, so bounds are drawn first. For a price p of a byte, the least distortion + p bytes of what remains is found backwards for
//! every state. At the best price (the Lagrangian dual's, by bisection) a partial decision that cannot end below the best one known is
//! dropped too. Nothing that could be the answer ever is.

/// What there is to decide.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// By variable and option.
    pub distortion: Vec<Vec<f64>>,
    /// What options cost.
    pub factors: Vec<Factor>,
}

/// A cost that depends on some variables.
#[derive(Clone, Debug)]
pub struct Factor {
    /// In ascending order.
    pub variables: Vec<usize>,
    /// For all combinations of their options, those of the last variable next to each other; `None` where they exclude each other.
    pub bytes: Vec<Option<u64>>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// By variable.
    pub options: Vec<usize>,
    /// What they cost.
    pub bytes: u64,
    /// What they do.
    pub distortion: f64,
}

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// All cost more.
    #[error("no choice takes less than {least} bytes")]
    Budget {
        /// The cheapest.
        least: u64,
    },
    /// All options exclude each other.
    #[error("no combination of choices is possible")]
    Excluded,
    /// Too many variables that one cost depends on.
    #[error("{states} combinations would have to be told apart at once")]
    TooWide {
        /// Of live variables.
        states: usize,
    },
}

/// Most states.
const MAX_STATES: usize = 1 << 18;
/// Halvings of the interval of prices.
const HALVINGS: usize = 50;

impl Problem {
    /// The decision with the least distortion within a budget; of several the cheapest.
    ///
    /// # Errors
    /// When there is none, or the search would be too large.
    pub fn solve(&self, budget: u64) -> Result<Solution, Unsolved> {
        let steps = self.steps()?;
        let search = Search { problem: self, steps: &steps };
        let least = search.completions(|_, bytes| bytes as f64);
        let cheapest = least[0][0];
        if cheapest.is_infinite() {
            return Err(Unsolved::Excluded);
        }
        if cheapest > budget as f64 {
            return Err(Unsolved::Budget { least: cheapest as u64 });
        }
        let mut best = search.follow(&least, |_, bytes| bytes as f64);
        let price = search.price(budget, &mut best);
        let relaxed = search.completions(|distortion, bytes| distortion + price * bytes as f64);
        Ok(search.exact(budget, price, &least, &relaxed, best))
    }

    /// Bytes and distortion of a decision; `None` if its options exclude each other.
    pub fn value(&self, options: &[usize]) -> Option<Solution> {
        let mut bytes = 0;
        for factor in &self.factors {
            let at = factor.variables.iter().fold(0, |at, &v| at * self.distortion[v].len() + options[v]);
            bytes += factor.bytes[at]?;
        }
        let distortion = self.distortion.iter().zip(options).map(|(of, &option)| of[option]).sum();
        Some(Solution { options: options.to_vec(), bytes, distortion })
    }

    /// What each variable's decision leads to.
    fn steps(&self) -> Result<Vec<Step>, Unsolved> {
        // What depends on nothing is paid with the first.
        let last = |factor: &Factor| factor.variables.last().copied().unwrap_or(0);
        let mut steps = Vec::with_capacity(self.distortion.len());
        let mut live: Vec<usize> = Vec::new();
        for variable in 0..self.distortion.len() {
            let seen: Vec<usize> = live.iter().copied().chain([variable]).collect();
            let asked = |v: &usize| self.factors.iter().any(|f| last(f) > variable && f.variables.contains(v));
            let next: Vec<usize> = seen.iter().copied().filter(asked).collect();
            let sizes: Vec<usize> = seen.iter().map(|&v| self.distortion[v].len()).collect();
            let states = sizes.iter().fold(1, |states: usize, &size| states.saturating_mul(size));
            if states > MAX_STATES {
                return Err(Unsolved::TooWide { states });
            }
            let factors: Vec<(&Factor, Vec<usize>)> = self
                .factors
                .iter()
                .filter(|factor| last(factor) == variable)
                .map(|factor| {
                    let place = |v: &usize| seen.iter().position(|s| s == v).expect("it is live until its last factor");
                    (factor, factor.variables.iter().map(place).collect())
                })
                .collect();
            let places: Vec<usize> = (0..seen.len()).filter(|&place| next.contains(&seen[place])).collect();
            let index = |digits: &[usize], places: &[usize]| {
                places.iter().fold(0, |at, &place| at * sizes[place] + digits[place])
            };
            let mut digits = vec![0; seen.len()];
            let mut moves = Vec::with_capacity(states);
            for state in 0..states {
                let mut rest = state;
                for (digit, size) in digits.iter_mut().zip(&sizes).rev() {
                    (*digit, rest) = (rest % size, rest / size);
                }
                let bytes = factors.iter().map(|(factor, places)| factor.bytes[index(&digits, places)]).sum();
                moves.push((bytes, index(&digits, &places)));
            }
            steps.push(Step { moves, next: next.iter().map(|&v| self.distortion[v].len()).product() });
            live = next;
        }
        Ok(steps)
    }
}

/// The decision on one variable.
struct Step {
    /// By state and option: bytes, if it is possible, and the state that follows.
    moves: Vec<(Option<u64>, usize)>,
    /// States that follow.
    next: usize,
}

struct Search<'a> {
    problem: &'a Problem,
    steps: &'a [Step],
}

/// A partial decision.
#[derive(Clone, Copy)]
struct Label {
    bytes: u64,
    distortion: f64,
    /// The one before, and the option taken.
    before: (usize, usize),
}

impl Search<'_> {
    /// The moves from a state: option, bytes, state that follows.
    fn moves(&self, step: usize, state: usize) -> impl Iterator<Item = (usize, u64, usize)> + '_ {
        let options = self.problem.distortion[step].len();
        let moves = self.steps[step].moves[state * options..][..options].iter().enumerate();
        moves.filter_map(|(option, &(bytes, next))| Some((option, bytes?, next)))
    }

    /// The least of what remains, by step and state.
    fn completions(&self, value: impl Fn(f64, u64) -> f64) -> Vec<Vec<f64>> {
        let mut all = vec![vec![0.0]];
        for step in (0..self.steps.len()).rev() {
            let after = all.last().expect("the end");
            let states = if step == 0 { 1 } else { self.steps[step - 1].next };
            let least = |state| {
                let ends = self
                    .moves(step, state)
                    .map(|(option, bytes, next)| value(self.problem.distortion[step][option], bytes) + after[next]);
                ends.fold(f64::INFINITY, f64::min)
            };
            let own = (0..states).map(least).collect();
            all.push(own);
        }
        all.reverse();
        all
    }

    /// The decision that `completions` are of.
    fn follow(&self, completions: &[Vec<f64>], value: impl Fn(f64, u64) -> f64) -> Solution {
        let (mut state, mut options) = (0, Vec::new());
        for step in 0..self.steps.len() {
            let end = |&(option, bytes, next): &(usize, u64, usize)| {
                value(self.problem.distortion[step][option], bytes) + completions[step + 1][next]
            };
            let best = self.moves(step, state).min_by(|a, b| end(a).total_cmp(&end(b)));
            let (option, _, next) = best.expect("completions are finite");
            options.push(option);
            state = next;
        }
        self.problem.value(&options).expect("all moves were possible")
    }

    /// The price of a byte at which what is cheapest is about as dear as the budget; `best` becomes the best decision met within it.
    fn price(&self, budget: u64, best: &mut Solution) -> f64 {
        let mut at = |price: f64| {
            let value = |distortion: f64, bytes: u64| distortion + price * bytes as f64;
            let found = self.follow(&self.completions(value), value);
            let fits = found.bytes <= budget;
            if fits && (found.distortion, found.bytes) < (best.distortion, best.bytes) {
                *best = found;
            }
            fits
        };
        if at(0.0) {
            return 0.0;
        }
        let largest: f64 = self.problem.distortion.iter().flatten().copied().fold(0.0, f64::max);
        let mut high = (largest / budget.max(1) as f64).max(f64::MIN_POSITIVE);
        while !at(high) && high < 1e300 {
            high *= 4.0;
        }
        let mut low = 0.0;
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if at(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// The best decision: `least` bytes and `relaxed` values of what remains are bounds, `best` is one within the budget.
    fn exact(&self, budget: u64, price: f64, least: &[Vec<f64>], relaxed: &[Vec<f64>], best: Solution) -> Solution {
        // Sums of floats differ in their last bits by the order in which they are made.
        let bound = best.distortion + price * budget as f64;
        let bound = bound + 1e-9 * bound.abs() + f64::MIN_POSITIVE;
        let mut labels = vec![Label { bytes: 0, distortion: 0.0, before: (0, 0) }];
        let mut at: Vec<Vec<usize>> = vec![vec![0]];
        for step in 0..self.steps.len() {
            let mut found: Vec<Vec<Label>> = vec![Vec::new(); self.steps[step].next];
            for (state, own) in at.iter().enumerate() {
                for &before in own {
                    for (option, bytes, next) in self.moves(step, state) {
                        let distortion = labels[before].distortion + self.problem.distortion[step][option];
                        let bytes = labels[before].bytes + bytes;
                        let fits = bytes as f64 + least[step + 1][next] <= budget as f64;
                        if fits && distortion + price * bytes as f64 + relaxed[step + 1][next] <= bound {
                            found[next].push(Label { bytes, distortion, before: (before, option) });
                        }
                    }
                }
            }
            at = found.into_iter().map(|own| undominated(own, &mut labels)).collect();
        }
        let ends = at[0].iter().copied();
        let end = ends.min_by(|&a, &b| {
            labels[a].distortion.total_cmp(&labels[b].distortion).then(labels[a].bytes.cmp(&labels[b].bytes))
        });
        let Some(mut end) = end else { return best };
        let mut options = vec![0; self.steps.len()];
        for slot in options.iter_mut().rev() {
            (end, *slot) = labels[end].before;
        }
        self.problem.value(&options).expect("all moves were possible")
    }
}

/// Those than which none is better in both; their places among all labels.
fn undominated(mut own: Vec<Label>, labels: &mut Vec<Label>) -> Vec<usize> {
    own.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.distortion.total_cmp(&b.distortion)));
    let (mut least, mut kept) = (f64::INFINITY, Vec::new());
    for label in own {
        if label.distortion < least {
            least = label.distortion;
            kept.push(labels.len());
            labels.push(label);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible numbers below `below`.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % below
        }
    }

    fn problem(numbers: &mut Numbers) -> Problem {
        let variables = 2 + numbers.below(6) as usize;
        let mut distortion = Vec::new();
        for _ in 0..variables {
            let options = 1 + numbers.below(4);
            // Whole numbers and ties, too.
            distortion.push((0..options).map(|_| numbers.below(12) as f64 / 8.0).collect::<Vec<_>>());
        }
        let mut factors = Vec::new();
        for _ in 0..2 * variables {
            let mut of: Vec<usize> = (0..numbers.below(4)).map(|_| numbers.below(variables as u64) as usize).collect();
            of.sort_unstable();
            of.dedup();
            let combinations: usize = of.iter().map(|&v| distortion[v].len()).product();
            let bytes = (0..combinations).map(|_| (numbers.below(20) > 0).then(|| numbers.below(100))).collect();
            factors.push(Factor { variables: of, bytes });
        }
        Problem { distortion, factors }
    }

    fn all(problem: &Problem) -> Vec<Solution> {
        let mut found = Vec::new();
        let mut options = vec![0; problem.distortion.len()];
        loop {
            found.extend(problem.value(&options));
            let Some(at) = (0..options.len()).find(|&at| options[at] + 1 < problem.distortion[at].len()) else {
                return found;
            };
            options[..at].fill(0);
            options[at] += 1;
        }
    }

    #[test]
    fn it_is_what_trying_all_finds() {
        let mut numbers = Numbers(1);
        let (mut solved, mut refused) = (0, 0);
        for _ in 0..300 {
            let problem = problem(&mut numbers);
            let all = all(&problem);
            let (least, most) = (all.iter().map(|s| s.bytes).min(), all.iter().map(|s| s.bytes).max());
            let Some((least, most)) = least.zip(most) else {
                assert_eq!(problem.solve(u64::MAX), Err(Unsolved::Excluded));
                continue;
            };
            for budget in
                [least.saturating_sub(1), least, (3 * least + most) / 4, (least + most) / 2, most, u64::MAX >> 12]
            {
                let within = all.iter().filter(|solution| solution.bytes <= budget);
                let best = within.min_by(|a, b| a.distortion.total_cmp(&b.distortion).then(a.bytes.cmp(&b.bytes)));
                match (problem.solve(budget), best) {
                    (Ok(found), Some(best)) => {
                        assert_eq!((found.distortion, found.bytes), (best.distortion, best.bytes), "{problem:?}");
                        assert_eq!(problem.value(&found.options).as_ref(), Some(&found));
                        solved += 1;
                    }
                    (Err(Unsolved::Budget { least: told }), None) => {
                        assert_eq!(told, least);
                        refused += 1;
                    }
                    (found, best) => panic!("{found:?} for {best:?}: {problem:?}"),
                }
            }
        }
        assert!(solved > 1000 && refused > 100, "{solved} solved, {refused} refused");
    }

    #[test]
    fn neighbours_decide_together() {
        // Each alone saves nothing, both do.
        let distortion = vec![vec![0.0, 1.0], vec![0.0, 1.0]];
        let factors = vec![Factor { variables: vec![0, 1], bytes: vec![Some(10), Some(11), Some(11), Some(5)] }];
        let problem = Problem { distortion, factors };
        assert_eq!(problem.solve(10).unwrap().options, [0, 0]);
        assert_eq!(problem.solve(9).unwrap().options, [1, 1]);
        assert_eq!(problem.solve(4), Err(Unsolved::Budget { least: 5 }));
    }

    #[test]
    fn what_would_take_too_long_is_refused() {
        let variables: Vec<usize> = (0..20).collect();
        let problem = Problem {
            distortion: vec![vec![0.0, 1.0]; 20],
            factors: vec![Factor { variables, bytes: vec![Some(1); 1 << 20] }],
        };
        assert!(matches!(problem.solve(1), Err(Unsolved::TooWide { .. })));
    }
}
