//! A layer of some terms that read one tensor, published, with both halves.

use std::sync::Arc;

use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::keys::{self, SetPlan};
use lowkey_bridge::{
    ClientLinear, Kept, LayerParameters, LayerPlan, Packing, Publisher, RerandomiserMasks, Schedule, Secrets,
    ServerLinear, TermPlan, client_layer, publish_layer,
};
use lowkey_he::mask::EpochSeed;
use rand_chacha::ChaCha20Rng;

pub const EPOCH: EpochSeed = EpochSeed([3; 32]);

/// The number of the first term.
pub const FIRST: u32 = 7;

pub struct Layer {
    pub plan: Arc<LayerPlan>,
    pub sets: [SetPlan; 1],
    pub masks: RerandomiserMasks,
    pub hint: Vec<u8>,
    pub client: Box<dyn ClientLinear>,
    pub server: Box<dyn ServerLinear>,
}

/// Both parties' shares of the result.
pub struct Shares {
    pub c: Vec<u64>,
    pub v: Vec<u64>,
}

impl Layer {
    /// The first body of an element defines its pad.
    pub fn publish(parameters: LayerParameters, shapes: &[ConvShape], weights: &[Vec<i32>]) -> Self {
        Self::banded(parameters, 1, shapes, weights, Kept::Ready)
    }

    /// As [`publish`](Self::publish), with `bands` output channels in an output ciphertext, in either form.
    pub fn banded(
        parameters: LayerParameters,
        bands: usize,
        shapes: &[ConvShape],
        weights: &[Vec<i32>],
        kept: Kept,
    ) -> Self {
        let set = parameters.set;
        let mut claimed = vec![false; shapes[0].input_len()];
        let terms = shapes.iter().zip(FIRST..).map(|(shape, layer)| {
            let packing = Packing::banded(shape, set.degree, bands).expect("small enough");
            TermPlan::new(layer, packing, |e| !std::mem::replace(&mut claimed[e as usize], true))
        });
        let terms = terms.collect();
        let (height, width) = shapes[0].output();
        let output = [shapes[0].out_channels, height, width];
        let plan = Arc::new(LayerPlan { first_secret: 1, parameters, output, terms });
        let sets = [SetPlan { set, secrets: 1 + plan.secrets(), b0_rounding: parameters.rounding.b0 }];
        let masks = keys::rerandomiser_masks(&sets, &EPOCH).unwrap();
        let publisher = Publisher { epoch: &EPOCH, masks: &masks, server_key: &[1; 32], context: &[2; 32], kept };
        let weights: Vec<&[i32]> = weights.iter().map(Vec::as_slice).collect();
        let (server, hint) = publish_layer(plan.clone(), &weights, &publisher).unwrap();
        assert_eq!(hint.len(), plan.hint_len());
        let client = client_layer(plan.clone(), &EPOCH, &hint, kept).unwrap();
        Self { plan, sets, masks, hint, client, server }
    }

    /// Fresh secrets and their b*_0.
    pub fn keys(&self, rng: &mut ChaCha20Rng) -> (Secrets, Vec<u8>) {
        keys::generate(&self.sets, &self.masks, rng).unwrap()
    }

    /// The bodies of every term. `values` becomes what they encrypt.
    pub fn encrypt(
        &self,
        schedule: Schedule,
        secrets: &mut Secrets,
        values: &mut [u64],
        rng: &mut ChaCha20Rng,
    ) -> Vec<Vec<u8>> {
        let message = |(index, term): (usize, &TermPlan)| {
            let message = match schedule {
                Schedule::Prepared => self.client.encrypt_pads(index, secrets, values, rng),
                Schedule::Direct => self.client.encrypt_shares(index, secrets, values, rng),
            };
            let message = message.unwrap();
            assert_eq!(message.len(), term.message_len(&self.plan.parameters, schedule));
            message
        };
        self.plan.terms.iter().enumerate().map(message).collect()
    }

    /// Both shares of the result, given the masked activation.
    pub fn shares(
        &self,
        schedule: Schedule,
        secrets: &Secrets,
        b0: &[u8],
        messages: &[Vec<u8>],
        masked: &[u64],
    ) -> Shares {
        let keys = keys::receive(&self.sets, b0).unwrap();
        let offline = self.server.offline(messages, &keys, schedule).unwrap();
        let v = self.server.online(offline, &vec![masked; messages.len()]);
        let [c, v] = [self.client.share(secrets).unwrap(), v].map(|share| share.words().to_vec());
        Shares { c, v }
    }
}
