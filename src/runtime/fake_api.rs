//! A Kubernetes API server for tests, in memory: as much of one as the driver, the caches and the claims meet. Objects
//! have versions, generations, a status of their own and finalizers; a test may have any request refused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::api::schema;

const PREFIX: &str = "/apis/roadstead.dev/v1alpha1/";

/// The server. Clones share it.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

/// Decides by method and path which requests are refused, and with what code.
type Refuse = Box<dyn Fn(&str, &str) -> Option<u16> + Send>;

#[derive(Default)]
struct State {
    /// By path below the API group, e.g. `namespaces/shop/nodes/web-1`.
    objects: BTreeMap<String, Value>,
    version: u64,
    refuse: Option<Refuse>,
    /// Method and path of each write that was let through.
    writes: Vec<String>,
}

impl FakeApi {
    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        Client::new(tower::service_fn(move |request| api.clone().serve(request)), "default")
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let (method, path) = (head.method.as_str(), head.uri.path().trim_start_matches(PREFIX));
        if head.uri.query().is_some_and(|query| query.contains("watch=true")) {
            // Nothing more happens.
            std::future::pending::<()>().await;
        }
        let body: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
        let mut state = self.lock();
        let refused = state.refuse.as_ref().and_then(|refuse| refuse(method, path));
        let (code, answer) = match refused {
            Some(code) => failure(code, "Refused"),
            None => state.answer(method, path, &body),
        };
        // Events are not what anybody counts.
        if method != "GET" && code < 300 && !path.starts_with('/') {
            state.writes.push(format!("{method} {path}"));
        }
        Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object there as it is, but for its version.
    pub fn put(&self, path: &str, object: &impl serde::Serialize) {
        let object = serde_json::to_value(object).unwrap();
        self.lock().store(path, object);
    }

    /// The object there.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Changes an object, as somebody else would.
    pub fn change(&self, path: &str, change: &Value) {
        let answer = self.lock().write(path, false, |object| merge(object, change));
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// From now on refuses what `refuse` names.
    pub fn refuse(&self, refuse: impl Fn(&str, &str) -> Option<u16> + Send + 'static) {
        self.lock().refuse = Some(Box::new(refuse));
    }

    /// The writes since this was last asked.
    pub fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().writes)
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (path, status) = path.strip_suffix("/status").map_or((path, false), |path| (path, true));
        match method {
            "GET" => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if is_collection(path) => (200, self.list(path)),
                None => failure(404, "NotFound"),
            },
            "POST" => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
                if self.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                let mut object = body.clone();
                object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                object["metadata"]["generation"] = json!(1);
                // Of kinds that are not ours nobody here reads a status.
                if !path.starts_with('/') {
                    let definition = schema::of(body["kind"].as_str().unwrap());
                    object["status"] = definition["properties"]["status"]["default"].clone();
                }
                (201, self.store(&path, object))
            }
            "PATCH" => self.guarded(path, status, body, |object| merge(object, body)),
            "PUT" => self.guarded(path, status, body, |object| {
                (object["metadata"], object["spec"]) = (body["metadata"].clone(), body["spec"].clone());
            }),
            "DELETE" => {
                let deleted = json!({"metadata": {"deletionTimestamp": "2027-01-15T08:00:00Z"}});
                self.guarded(path, false, &json!({"metadata": body["preconditions"]}), |object| merge(object, &deleted))
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    /// Writes unless `body` names another version than the present one.
    fn guarded(&mut self, path: &str, status: bool, body: &Value, change: impl FnOnce(&mut Value)) -> (u16, Value) {
        let named = &body["metadata"]["resourceVersion"];
        match self.objects.get(path) {
            Some(object) if !named.is_null() && *named != object["metadata"]["resourceVersion"] => {
                failure(409, "Conflict")
            }
            _ => self.write(path, status, change),
        }
    }

    fn write(&mut self, path: &str, status: bool, change: impl FnOnce(&mut Value)) -> (u16, Value) {
        let Some(before) = self.objects.get(path).cloned() else { return failure(404, "NotFound") };
        let mut object = before.clone();
        change(&mut object);
        let kept = if status { ["metadata", "spec"].as_slice() } else { &["status"] };
        for part in kept {
            object[part] = before[part].clone();
        }
        let deleted = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        if object["spec"] != before["spec"] || deleted(&object) != deleted(&before) {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let object = self.store(path, object);
        if deleted(&object) && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.objects.remove(path);
        }
        (200, object)
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// All objects of a kind, or those of one namespace.
    fn list(&self, collection: &str) -> Value {
        let (scope, plural) = collection.rsplit_once('/').unwrap_or(("", collection));
        let within = |path: &str| path.starts_with(scope) && path.rsplit('/').nth(1) == Some(plural);
        let items: Vec<_> = self.objects.iter().filter(|(path, _)| within(path)).map(|(_, object)| object).collect();
        let version = self.version.to_string();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items})
    }
}

fn is_collection(path: &str) -> bool {
    matches!(path.split('/').collect::<Vec<_>>().as_slice(), [_] | ["namespaces", _, _])
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let (api, message) = ("v1", format!("{reason}!"));
    let failure = json!({"apiVersion": api, "kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code});
    (code, failure)
}

/// Applies a merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().into_iter().for_each(|target| drop(target.remove(key)));
        } else {
            merge(&mut target[key], change);
        }
    }
}
