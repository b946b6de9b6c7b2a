//! A small API server: versioned objects, preconditions of writes, and a log of watch events.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::cluster::Object;
use crate::publish::{Action, Outcome, Part, Target};

/// The key of an object: its kind, and its name or `namespace/name`.
pub(super) type Place = (&'static str, String);

/// A watch event with the current or last state of an object.
pub(super) struct LoggedEvent {
    pub(super) kind: &'static str,
    pub(super) object: Value,
    pub(super) gone: bool,
}

#[derive(Default)]
pub(super) struct ApiServer {
    objects: BTreeMap<Place, Value>,
    version: u64,
    /// The events that the watch has not reported yet.
    pub(super) log: VecDeque<LoggedEvent>,
}

impl ApiServer {
    /// A user creates an object or replaces its spec. Finalizers and annotations of an existing object stay unless
    /// given. Objects that have terminated or are being deleted cannot be changed.
    pub(super) fn put(&mut self, kind: &'static str, name: &str, value: &Value) {
        let place = (kind, name.to_owned());
        let before = self.objects.get(&place);
        let ended = |object: &Value| object["status"]["phase"] == "Succeeded";
        if before.is_some_and(|object| ended(object) || !object["metadata"]["deletionTimestamp"].is_null()) {
            return;
        }
        let mut object = before.cloned().unwrap_or_else(|| self.blank(name));
        // A user writes the spec as a whole.
        object["spec"] = Value::Null;
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        merge(&mut object, value);
        self.store(place, object);
    }

    pub(super) fn delete(&mut self, place: Place) {
        if let Some(mut object) = self.objects.get(&place).cloned() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.store(place, object);
        }
    }

    /// A user removes the finalizers and deletes the object.
    pub(super) fn delete_by_force(&mut self, place: Place) {
        if let Some(mut object) = self.objects.get(&place).cloned() {
            object["metadata"]["finalizers"] = Value::Null;
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.store(place, object);
        }
    }

    /// A write of the controller.
    pub(super) fn write(&mut self, target: &Target, action: &Action) -> Outcome {
        let place = place(&target.object);
        let before = self.objects.get(&place).cloned();
        let unlike = |asked: &Value, object: &Value, field: &str| {
            let asked = &asked["metadata"][field];
            !asked.is_null() && *asked != object["metadata"][field]
        };
        match (action, before) {
            (Action::Create(body), None) => {
                let mut object = self.blank(&place.1);
                merge(&mut object, &body.parse().unwrap());
                self.store(place, object);
            }
            (Action::Merge(body), Some(mut object)) => {
                let patch: Value = body.parse().unwrap();
                if unlike(&patch, &object, "uid") || unlike(&patch, &object, "resourceVersion") {
                    return Outcome::Conflict;
                }
                let patch = match target.part {
                    Part::Main => patch,
                    Part::Status => json!({ "status": patch["status"] }),
                };
                merge(&mut object, &patch);
                self.store(place, object);
            }
            // Only of the conditions of a Node, of which there are no others here.
            (Action::Strategic(body), Some(mut object)) => {
                let patch: Value = body.parse().unwrap();
                if unlike(&patch, &object, "uid") {
                    return Outcome::Conflict;
                }
                merge(&mut object, &json!({ "status": patch["status"] }));
                self.store(place, object);
            }
            (Action::Apply(body), Some(mut object)) => {
                let applied: Value = body.parse().unwrap();
                if unlike(&applied, &object, "uid") {
                    return Outcome::Conflict;
                }
                apply(&mut object, &applied);
                self.store(place, object);
            }
            (Action::Delete(precondition), Some(object)) => {
                let metadata = &object["metadata"];
                if metadata["uid"] != *precondition.uid || metadata["resourceVersion"] != *precondition.version {
                    return Outcome::Conflict;
                }
                self.delete(place);
            }
            (Action::Delete(_), None) => {}
            (Action::Create(_), Some(_)) | (Action::Merge(_) | Action::Strategic(_) | Action::Apply(_), None) => {
                return Outcome::Conflict;
            }
        }
        Outcome::Taken
    }

    fn blank(&self, name: &str) -> Value {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        json!({ "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{}", self.version) } })
    }

    /// Stores an object and logs the event. An object that is being deleted is removed with its last finalizer. A write
    /// without a change creates no version.
    fn store(&mut self, place: Place, mut object: Value) {
        let before = self.objects.get(&place);
        if before == Some(&object) {
            return;
        }
        if before.is_none_or(|before| before["spec"] != object["spec"]) {
            let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        let held = metadata["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let gone = !metadata["deletionTimestamp"].is_null() && !held;
        self.log.push_back(LoggedEvent { kind: place.0, object: object.clone(), gone });
        if gone {
            self.objects.remove(&place);
        } else {
            self.objects.insert(place, object);
        }
    }
}

fn place(object: &Object) -> Place {
    match object {
        Object::Pod(port) => {
            let (name, namespace) = api::pod_of_port(port).unwrap();
            ("Pod", format!("{namespace}/{name}"))
        }
        Object::Node(name) => ("Node", name.to_string()),
        Object::Namespace(name) => ("Namespace", name.to_string()),
        Object::Subnet(name) => ("Subnet", name.to_string()),
        Object::ExternalHost(name) => ("ExternalHost", name.to_string()),
        Object::IpPool(name) => ("IPPool", name.to_string()),
        Object::Ip(name) => ("IP", name.to_string()),
        Object::StatefulSet(path) => ("StatefulSet", path.to_string()),
    }
}

/// Server-side apply of spec fields by one manager: fields that it applied before and leaves out now are removed.
fn apply(object: &mut Value, applied: &Value) {
    let names = |spec: &Value| -> Map<String, Value> {
        spec.as_object().into_iter().flatten().map(|(name, _)| (format!("f:{name}"), json!({}))).collect()
    };
    let before = object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].clone();
    let now = names(&applied["spec"]);
    for field in before.as_object().into_iter().flatten().map(|(name, _)| name).filter(|name| !now.contains_key(*name))
    {
        object["spec"].as_object_mut().unwrap().remove(field.trim_start_matches("f:"));
    }
    merge(object, &json!({ "spec": applied["spec"] }));
    object["metadata"]["managedFields"] = json!([{
        "manager": crate::publish::FIELD_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "apiVersion": "kubeovn.io/v1",
        "fieldsV1": { "f:spec": now },
    }]);
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}
