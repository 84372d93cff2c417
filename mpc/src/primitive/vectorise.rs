//! Functions whose loops are compiled for the widest vectors of this machine, chosen at run time.

/// Defines a function three times: for AVX-512, for AVX2, and portable; calls run the best that the processor has.
///
/// There is one source, so all three compute the same. The body, and what it inlines, is vectorised by the compiler.
/// The choice depends on the machine only.
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<$t:ident: $bound:ident>)? ($($arg:ident: $ty:ty),* $(,)?) $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name $(<$t: $bound>)? ($($arg: $ty),*) {
            #[inline(always)]
            fn portable $(<$t: $bound>)? ($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512 $(<$t: $bound>)? ($($arg: $ty),*) {
                    portable($($arg),*);
                }
                #[target_feature(enable = "avx2,bmi2")]
                fn avx2 $(<$t: $bound>)? ($($arg: $ty),*) {
                    portable($($arg),*);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the four features were detected on this processor.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
                    // SAFETY: both features were detected on this processor.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*);
        }
    };
}

pub(crate) use vectorised;
