//! Loops compiled for the widest vector unit that the machine has.
//!
//! The loops of this crate are plain Rust. [`vectorize`] compiles its argument three times, for AVX-512, for AVX2 and for
//! the target's baseline, and picks at run time. All three compute the same integers.
//!
//! # Safety
//!
//! The two `unsafe` calls enter functions that require CPU features; each is guarded by the detection of exactly those
//! features.

/// Runs `kernel`, which should be an `#[inline(always)]` closure around a loop, with the best instructions available.
#[inline(always)]
pub(crate) fn vectorize<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the four features have just been detected.
            return unsafe { with_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature has just been detected.
            return unsafe { with_avx2(kernel) };
        }
    }
    kernel()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}
