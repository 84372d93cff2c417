//! Progress on standard error, where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `len` items. Shows itself after half a second at the earliest, and never where standard error is no terminal.
pub fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a valid template");
    let bar = ProgressBar::new(len).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A callback of (done, all) that draws a bar, and removes it at the end.
pub fn callback(what: &'static str) -> impl Fn(usize, usize) + Send + Sync + 'static {
    let bar = bar(what, 0);
    move |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if done == all {
            bar.finish_and_clear();
        }
    }
}
