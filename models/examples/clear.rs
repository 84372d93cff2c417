//! What a model file computes of the inputs of a file, in the clear: a line of JSON for each.
//!
//! ```text
//! cargo run -p lowkey-models --example clear -- MODEL.lowkey INPUTS.npy
//! ```

use std::error::Error;
use std::path::PathBuf;

use lowkey_models::Network;
use lowkey_models::data::Inputs;
use serde_json::json;

/// Inputs evaluated at once.
const BATCH: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, inputs] = &paths[..] else { return Err("give a .lowkey file and a file of inputs".into()) };
    let network = Network::read(model)?;
    let architecture = network.architecture();
    let inputs: Vec<_> = Inputs::read(inputs, &architecture.input)?.iter().collect();
    for batch in inputs.chunks(BATCH) {
        for output in network.run_batch(batch)? {
            let logits: Vec<i64> = output.iter().copied().collect();
            let line = json!({
                "logits": architecture.ordered(&logits),
                "outputs": architecture.outputs(&logits),
                "prediction": architecture.class_of(&logits),
            });
            println!("{line}");
        }
    }
    Ok(())
}
