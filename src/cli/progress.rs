//! Progress on standard error, where that is a terminal.

use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// How often a bar is drawn again.
const TICK: Duration = Duration::from_millis(500);

/// All bars, one below the other.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Prints something with the bars off the screen.
pub fn above<T>(print: impl FnOnce() -> T) -> T {
    if !is_piped() {
        return bars().suspend(print);
    }
    // Another program shows it, on this terminal perhaps and where it likes: no bar may stand there, and lines tell how far it is.
    // A terminal that does not clear is left as it is.
    let _ = bars().clear();
    bars().set_draw_target(ProgressDrawTarget::hidden());
    print()
}

/// True if another program reads what is printed.
fn is_piped() -> bool {
    #[cfg(unix)]
    {
        use std::os::{fd::AsFd, unix::fs::FileTypeExt};
        static PIPED: OnceLock<bool> = OnceLock::new();
        let looked_at = || {
            let output = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            Ok::<_, std::io::Error>(output.metadata()?.file_type().is_fifo())
        };
        *PIPED.get_or_init(|| looked_at().unwrap_or(false))
    }
    #[cfg(not(unix))]
    false
}

/// A bar over `len` items. Shows itself after half a second at the earliest, and never where standard error is no terminal.
pub fn bar(what: &'static str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len).with_style(counted()).with_message(what).with_finish(ProgressFinish::AndClear);
    let bar = bars().add(bar);
    bar.enable_steady_tick(TICK);
    bar
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a valid template")
}

/// A sign that something goes on, of which nobody knows how far it is; gone once it is dropped.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = bars().add(waiting(what));
    bar.enable_steady_tick(TICK);
    bar
}

/// A callback of (done, all) that draws a bar, and removes it at the end. Until it knows how much there is, it only says what it
/// is doing.
pub fn callback(what: &'static str) -> impl Fn(usize, usize) + Send + Sync + 'static {
    let bar = spinner(what);
    move |done, all| step(&bar, done, all)
}

fn waiting(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("a valid template");
    ProgressBar::new_spinner().with_style(style).with_message(what).with_finish(ProgressFinish::AndClear)
}

fn step(bar: &ProgressBar, done: usize, all: usize) {
    if bar.is_finished() {
        return;
    }
    if done >= all {
        bar.finish_and_clear();
        return;
    }
    if bar.length().is_none() {
        bar.set_style(counted());
    }
    bar.set_length(all as u64);
    bar.set_position(done as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_none_before_its_length_is_known() {
        let bar = waiting("publishing");
        assert_eq!(bar.length(), None);
        step(&bar, 1, 3);
        assert_eq!((bar.length(), bar.position(), bar.is_finished()), (Some(3), 1, false));
        step(&bar, 3, 3);
        assert!(bar.is_finished());
        // Nothing to do is done.
        let empty = waiting("publishing");
        step(&empty, 0, 0);
        assert!(empty.is_finished());
    }
}
