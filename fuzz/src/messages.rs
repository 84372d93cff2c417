//! Control messages, packed fields, hints, b*_0 and bodies.

use std::sync::{Arc, OnceLock};

use lowkey::Reveal;
use lowkey::guard::exchange::{Complete, Owes, Settled, Word};
use lowkey::guard::{AuditAnswer, Commitment, Nonce, SlotName};
use lowkey::session::{Accept, Action, Ask, Done, Hello, Listing, MAX_CONTROL, Ready, Request, VERSION, Welcome};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::keys::{self as bridge_keys, SetPlan};
use lowkey_bridge::{
    Kept, LayerParameters, LayerPlan, Packing, Publisher, Schedule, ServerKeys, ServerLinear, TermPlan, client_layer,
    publish_layer,
};
use lowkey_he::params::{self, ParameterSet};
use lowkey_he::{EpochSeed, Hint, Ring, Rounding, TorusWord, pack, with_word};
use lowkey_mpc::channel::Sums;
use lowkey_mpc::ot::NextIndex;
use lowkey_mpc::wire;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn control_message<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    match wire::decode::<T>(bytes, MAX_CONTROL) {
        Ok(message) => assert!(wire::encode(&message).expect("it was decoded") == bytes),
        Err(error) => assert!(error.is_peer_fault()),
    }
}

pub fn control(bytes: &[u8]) {
    control_message::<Hello>(bytes);
    control_message::<Welcome>(bytes);
    control_message::<Listing>(bytes);
    control_message::<Accept>(bytes);
    control_message::<Request>(bytes);
    control_message::<Ready>(bytes);
    control_message::<Done>(bytes);
    control_message::<Owes>(bytes);
    control_message::<Complete>(bytes);
    control_message::<Word>(bytes);
    control_message::<Settled>(bytes);
    control_message::<Commitment>(bytes);
    control_message::<Nonce>(bytes);
    control_message::<AuditAnswer>(bytes);
}

pub fn controls() -> Vec<Vec<u8>> {
    let sums = Sums { sent: 1 << 31, received: 6 };
    let ots = NextIndex { client_receives: 5, server_receives: 1 << 40 };
    let request = |action| wire::encode(&Request { action, ots, sums });
    let welcome = Welcome { version: VERSION, digest: [1; 32], epoch: [2; 32], plan_bytes: 3, hint_bytes: 4 };
    [
        wire::encode(&Hello::new(Ask::Only)),
        wire::encode(&Hello::new(Ask::Model("digits".into()))),
        wire::encode(&Hello::new(Ask::List)),
        wire::encode(&welcome),
        wire::encode(&Accept { send_hint: true }),
        wire::encode(&Ready { slot: 9, sums }),
        request(Action::Prepare { slot: 1, reveal: Reveal::Logits }),
        request(Action::Run { slot: 1 }),
        request(Action::Direct { slot: 2, reveal: Reveal::Class }),
        request(Action::Close),
        wire::encode(&Done { sums }),
        wire::encode(&Owes(Some(SlotName { session: [3; 32], number: 4, model: [5; 32] }))),
        wire::encode(&Complete { sums }),
        wire::encode(&Word::Open),
        wire::encode(&Settled { slot: 6 }),
    ]
    .map(|message| message.expect("it can be encoded"))
    .into()
}

/// One byte of width, two of count, then the fields.
pub fn packed(bytes: &[u8]) {
    let Some(([width, low, high], fields)) = bytes.split_first_chunk() else { return };
    let (width, count) = (u32::from(width % 64) + 1, usize::from(u16::from_le_bytes([*low, *high])));
    if let Ok(words) = pack::read::<u64>(fields, count, width) {
        let mut again = Vec::new();
        pack::append(&mut again, &words, width);
        assert!(again == fields);
    }
    if width <= 32 {
        let narrow = pack::read::<u32>(fields, count, width).map(|words| words.into_iter().map(u64::from).collect());
        assert!(narrow == pack::read(fields, count, width));
    }
}

pub fn packed_fields() -> Vec<Vec<u8>> {
    [1u32, 7, 8, 11, 32, 57, 58, 64]
        .map(|width| {
            let mut bytes = vec![width as u8 - 1, 21, 0];
            pack::append(&mut bytes, &[0x0123_4567_89ab_cdef_u64; 21], width);
            bytes
        })
        .into()
}

fn hint_of<W: TorusWord>(set: &'static ParameterSet, rounding: u32, bytes: &[u8]) {
    let ring = Ring::<W>::shared(set).expect("the set's own word");
    if let Ok(hint) = Hint::from_bytes(ring, rounding, bytes) {
        assert!(hint.to_bytes() == bytes);
    }
}

/// A parameter set, a rounding, the hint.
pub fn hint(bytes: &[u8]) {
    let Some(([set, rounding], hint)) = bytes.split_first_chunk() else { return };
    let set = params::ALL[usize::from(*set) % params::ALL.len()];
    with_word!(set, W => hint_of::<W>(set, (*rounding).into(), hint));
}

pub fn hints() -> Vec<Vec<u8>> {
    let one = |(index, set): (usize, &&ParameterSet)| {
        let rounding = 3 + index as u32;
        let mut bytes = vec![index as u8, rounding as u8];
        pack::append(&mut bytes, &vec![0x5aa5_1234_u64; set.degree], set.torus_bits - rounding);
        bytes
    };
    params::ALL.iter().enumerate().map(one).collect()
}

/// A layer in two tiles with bodies of both kinds, and what its two halves need.
struct Layer {
    plan: Arc<LayerPlan>,
    sets: [SetPlan; 1],
    server: Box<dyn ServerLinear>,
    keys: ServerKeys,
    b0: Vec<u8>,
    messages: [Vec<u8>; 2],
}

const SCHEDULES: [Schedule; 2] = [Schedule::Prepared, Schedule::Direct];

impl Layer {
    fn new(set: &'static ParameterSet) -> Self {
        let shape = ConvShape::square(1, 2, 3, 46, 1);
        let parameters = LayerParameters { set, ell: 9, rounding: Rounding::all(3) };
        let packing = Packing::new(&shape, set.degree).expect("small enough");
        let mut claimed = vec![false; shape.input_len()];
        let term = TermPlan::new(0, packing, |e| !std::mem::replace(&mut claimed[e as usize], true));
        let plan = Arc::new(LayerPlan { first_secret: 0, parameters, output: [2, 46, 46], terms: vec![term] });
        let sets = [SetPlan { set, secrets: plan.secrets(), b0_rounding: 3 }];
        let epoch = EpochSeed([1; 32]);
        let masks = bridge_keys::rerandomiser_masks(&sets, &epoch).expect("masks");
        let publisher =
            Publisher { epoch: &epoch, masks: &masks, server_key: &[2; 32], context: &[3; 32], kept: Kept::Ready };
        let (server, hint) = publish_layer(plan.clone(), &[&[1; 18]], &publisher).expect("it fits");
        let client = client_layer(plan.clone(), &epoch, &hint, Kept::Ready).expect("its own hint");
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let (_, b0) = bridge_keys::generate(&sets, &masks, &mut rng).expect("keys");
        let mut message = |schedule| {
            let (mut secrets, _) = bridge_keys::generate(&sets, &masks, &mut rng).expect("keys");
            let mut values = vec![1; shape.input_len()];
            match schedule {
                Schedule::Prepared => client.encrypt_pads(0, &mut secrets, &mut values, &mut rng),
                Schedule::Direct => client.encrypt_shares(0, &mut secrets, &values, &mut rng),
            }
            .expect("fresh secrets")
        };
        let messages = SCHEDULES.map(&mut message);
        let keys = bridge_keys::receive(&sets, &b0).expect("its own keys");
        Self { plan, sets, server, keys, b0, messages }
    }
}

fn layers() -> &'static [Layer; 2] {
    static LAYERS: OnceLock<[Layer; 2]> = OnceLock::new();
    LAYERS.get_or_init(|| [&params::T32N2048, &params::T64N2048].map(Layer::new))
}

pub fn keys(bytes: &[u8]) {
    for layer in layers() {
        if let Err(error) = bridge_keys::receive(&layer.sets, bytes) {
            assert!(error.is_peer_fault(), "{error}");
        }
    }
}

pub fn key_messages() -> Vec<Vec<u8>> {
    layers().iter().map(|layer| layer.b0.clone()).collect()
}

/// One byte of layer and schedule, then the message.
pub fn bodies(bytes: &[u8]) {
    let Some((choice, message)) = bytes.split_first() else { return };
    let layer = &layers()[usize::from(choice & 1)];
    let schedule = SCHEDULES[usize::from(choice >> 1 & 1)];
    let expected: usize = layer.plan.terms.iter().map(|t| t.message_len(&layer.plan.parameters, schedule)).sum();
    match layer.server.offline(&[message.to_vec()], &layer.keys, schedule) {
        Ok(_) => assert_eq!(message.len(), expected),
        Err(error) => assert!(error.is_peer_fault(), "{error}"),
    }
}

pub fn body_messages() -> Vec<Vec<u8>> {
    let all = layers().iter().enumerate().flat_map(|(layer, own)| {
        own.messages.iter().enumerate().map(move |(schedule, message)| (layer | schedule << 1, message))
    });
    all.map(|(choice, message)| [&[choice as u8], &message[..]].concat()).collect()
}
