//! Addresses of 32 bits: a server's plan whose sizes wrap around there is refused as it is elsewhere.
//!
//! In Node: `web/build.sh --test`.

#![cfg(target_arch = "wasm32")]

use lowkey::publication::read_plan;
use lowkey::{Link, Model, Plan};
use serde_json::{Value, json};
use wasm_bindgen_test::wasm_bindgen_test;

fn digits() -> (Value, usize) {
    let plan = Model::bundled("digits").expect("it is bundled").plan(Link::Lan).expect("a plan");
    (json!({ "architecture": plan.architecture, "choices": plan.choices }), plan.hint_bytes())
}

/// Why it is refused.
fn refused(plan: &Value, hint: usize) -> String {
    match read_plan(plan.to_string().as_bytes(), hint) {
        Ok(_) => panic!("it is accepted: {plan}"),
        Err(error) => format!("{error:?}"),
    }
}

#[wasm_bindgen_test]
fn an_honest_plan_is_read() {
    let (text, hint) = digits();
    let plan: Plan = read_plan(text.to_string().as_bytes(), hint).expect("as published");
    assert_eq!(plan.input().shape, [1, 8, 8]);
}

#[wasm_bindgen_test]
fn an_image_of_2_to_the_32_pixels() {
    let (mut plan, hint) = digits();
    plan["architecture"]["input"]["shape"] = json!([1, 1 << 16, 1 << 16]);
    let why = refused(&plan, hint);
    assert!(why.contains("number of elements"), "{why}");
}

/// 2^22 values in each of 2^22 + 2^12 + 1 windows: 2^22 of them modulo 2^32, which would be allowed.
#[wasm_bindgen_test]
fn windows_of_2_to_the_44_values() {
    let (mut plan, hint) = digits();
    let pool = json!({
        "name": "pool", "op": "max_pool", "input": 0,
        "kernel": [2048, 2048], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1],
    });
    plan["architecture"]["input"]["shape"] = json!([1, 4096, 4096]);
    plan["architecture"]["nodes"] = json!([pool]);
    plan["architecture"]["output"] = json!(1);
    plan["architecture"]["classes"] = json!([]);
    let layout = plan["choices"]["layouts"][0].clone();
    for (what, chosen) in
        [("sets", json!([])), ("linear", json!([])), ("scales", json!([])), ("layouts", json!([layout]))]
    {
        plan["choices"][what] = chosen;
    }
    let why = refused(&plan, hint);
    assert!(why.contains("values in all windows"), "{why}");
}
