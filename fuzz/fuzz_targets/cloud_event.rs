//! Any request as CloudEvents: what is read is written and read again as the same, or it is refused.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use rouse_triggers::cloud_event::{Event, STRUCTURED_TYPE, read};

fuzz_target!(|input: (Vec<(&[u8], &[u8])>, u8, &[u8])| {
    let (pairs, mode, body) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.into_iter().take(100) {
        let name = [b"ce-".as_slice(), name].concat();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let types = ["application/json", STRUCTURED_TYPE, "application/cloudevents-batch+json", "text/plain"];
    headers.insert("content-type", HeaderValue::from_static(types[usize::from(mode) % types.len()]));
    if let Ok(events) = read(&headers, body) {
        for event in &events {
            let (head, body) = event.to_binary();
            let binary = read(&head, &body).expect("what was written is read");
            assert_eq!(binary[0].id(), event.id());
            assert_eq!(binary[0].data(), event.data().filter(|data| !data.is_empty()));
        }
        let batch = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(types[2]))]);
        assert_eq!(read(&batch, &Event::batch_to_json(&events)).expect("what was written is read").len(), events.len());
    }
});
