//! Secure output equals the plaintext integer network's, bit for bit, always.

mod common;

use lowkey::{Reveal, Schedule};
use lowkey_models::zoo;

#[test]
fn digits_in_both_schedules_and_reveals() {
    let bundled = zoo::find("digits").unwrap();
    let (network, demo) = (bundled.network(), bundled.demo().unwrap());
    let model = common::publish(&network);
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        for reveal in [Reveal::Logits, Reveal::Class] {
            let inputs: Vec<_> = (0..3).map(|i| demo.inputs.get(i).unwrap()).collect();
            for (input, answer) in inputs.iter().zip(common::infer(&model, &inputs, schedule, reveal)) {
                assert_eq!(answer.output, common::expected(&network, input, reveal), "{schedule:?} {reveal:?}");
            }
        }
    }
}
