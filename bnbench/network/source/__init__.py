"""Networks by a MODEL word: `my_model.py:Net`, `torchvision:resnet18`, `timm:resnet18`, `hf:BertConfig`.

    loaded = load_model("my_model.py:Net", Wanted(num_classes=10, in_channels=3))
    outputs = call(loaded.model, loaded.inputs(8))

Weights are random and follow from a seed; nothing is downloaded. Options stand behind commas:
`hf:LlamaConfig,hidden_size=64,num_hidden_layers=2`. A factory is called with those of the data's facts that its
signature names (`bnbench.network.source.arguments` has the names), and with the options.
"""

from bnbench.network.source.load import load_model
from bnbench.network.source.records import Inputs, LoadedModel, Wanted, call

__all__ = ["Inputs", "LoadedModel", "Wanted", "call", "load_model"]
