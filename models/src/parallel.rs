//! Work on many items, on all cores.

/// How many cores there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `f` of as many parts as there are cores, in order.
///
/// # Panics
/// If `f` does.
pub fn parts<T: Sync, U: Send>(items: &[T], f: impl Fn(&[T]) -> U + Sync) -> Vec<U> {
    let part = items.len().div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        let f = &f;
        let workers: Vec<_> = items.chunks(part).map(|part| scope.spawn(move || f(part))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panics")).collect()
    })
}

/// `f` of every item, in order.
///
/// # Panics
/// If `f` does.
pub fn each<T: Sync, U: Send>(items: &[T], f: impl Fn(&T) -> U + Sync) -> Vec<U> {
    parts(items, |part| part.iter().map(&f).collect::<Vec<U>>()).into_iter().flatten().collect()
}
