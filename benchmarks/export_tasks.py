"""Lists the tasks whose export coverage is measured: for each, the auto class whose heads are exported."""

from __future__ import annotations

from typing import Any

from equipoise.validators.models.auto_classes import class_names_by_type

BASE_TASK = "feature-extraction"
HEAD_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "image-segmentation": "AutoModelForImageSegmentation",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
    "instance-segmentation": "AutoModelForInstanceSegmentation",
    "universal-segmentation": "AutoModelForUniversalSegmentation",
    "depth-estimation": "AutoModelForDepthEstimation",
    "masked-image-modeling": "AutoModelForMaskedImageModeling",
    "image-to-image": "AutoModelForImageToImage",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
    "zero-shot-object-detection": "AutoModelForZeroShotObjectDetection",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
    "speech-to-text": "AutoModelForSpeechSeq2Seq",
    "audio-frame-classification": "AutoModelForAudioFrameClassification",
    "audio-xvector": "AutoModelForAudioXVector",
    "video-classification": "AutoModelForVideoClassification",
    "visual-question-answering": "AutoModelForVisualQuestionAnswering",
    "document-question-answering": "AutoModelForDocumentQuestionAnswering",
    "table-question-answering": "AutoModelForTableQuestionAnswering",
    "time-series-prediction": "AutoModelForTimeSeriesPrediction",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "image-text-to-text": "AutoModelForImageTextToText",
    "image-to-text": "AutoModelForVision2Seq",
    "text-generation": "AutoModelForCausalLM",
    "backbone": "AutoBackbone",
    "text-recognition": "AutoModelForTextRecognition",
    "table-recognition": "AutoModelForTableRecognition",
    "mask-generation": "AutoModelForMaskGeneration",
    "keypoint-detection": "AutoModelForKeypointDetection",
    "keypoint-matching": "AutoModelForKeypointMatching",
    "pose-estimation": "AutoModelForPoseEstimation",
    "image-matting": "AutoModelForImageMatting",
    "normal-estimation": "AutoModelForNormalEstimation",
    "text-to-spectrogram": "AutoModelForTextToSpectrogram",
    "text-to-waveform": "AutoModelForTextToWaveform",
}
CHOICES_PER_SAMPLE = 3
"""Number of texts to choose from in ``multiple-choice``."""


def list_pairs(types: dict[str, Any], wanted: list[str], *, heads: bool) -> list[tuple[str, Any]]:
    """Returns the pairs of model type and task: model types with their base class, then with the head of each task."""
    chosen = {name: types[name] for name in wanted or sorted(types)}
    found = [(f"{name} {BASE_TASK}", entry) for name, entry in chosen.items()]
    for task, auto_class in HEAD_CLASSES.items() if heads else ():
        for name, classes in sorted(class_names_by_type(auto_class).items()):
            if name in chosen:
                found.append((f"{name} {task}", _head_entry(chosen[name], task, classes[0])))
    return found


def _head_entry(entry: dict[str, Any], task: str, class_name: str) -> dict[str, Any]:
    """Returns the entry of a model type with the class of a task and the inputs of its head."""
    shapes = dict(entry["inputs"])
    if task == "text-classification":
        shapes.pop("decoder_input_ids", None)  # the model derives them from input_ids
    if task == "multiple-choice":
        shapes = {
            name: [shape[0], CHOICES_PER_SAMPLE, *shape[1:]]
            if name in ("input_ids", "attention_mask")
            else shape
            for name, shape in shapes.items()
        }
    return {**entry, "class": class_name, "inputs": shapes}
