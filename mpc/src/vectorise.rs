//! Runs a loop compiled for the widest vectors of this machine, chosen at run time.

/// Calls `kernel`, compiled a second time for AVX-512 or AVX2 where the processor has them.
///
/// The loops of `kernel`, and whatever it inlines, are vectorised by the compiler; there is one source, so the
/// portable form is the same code. The choice depends on the machine only.
#[inline(always)]
pub(crate) fn vectorised<T>(kernel: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<T>(kernel: impl FnOnce() -> T) -> T {
            kernel()
        }
        #[target_feature(enable = "avx2,bmi2")]
        fn avx2<T>(kernel: impl FnOnce() -> T) -> T {
            kernel()
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the four features were detected on this processor.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
            // SAFETY: both features were detected on this processor.
            return unsafe { avx2(kernel) };
        }
    }
    kernel()
}
