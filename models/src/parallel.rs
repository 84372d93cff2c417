//! Work on many items, on all cores.

/// `f` of as many parts as there are cores, in order.
pub(crate) fn parts<T: Sync, U: Send>(items: &[T], f: impl Fn(&[T]) -> U + Sync) -> Vec<U> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let f = &f;
        let workers: Vec<_> = items.chunks(part).map(|part| scope.spawn(move || f(part))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panics")).collect()
    })
}

/// `f` of every item, in order.
pub(crate) fn each<T: Sync, U: Send>(items: &[T], f: impl Fn(&T) -> U + Sync) -> Vec<U> {
    parts(items, |part| part.iter().map(&f).collect::<Vec<U>>()).into_iter().flatten().collect()
}
