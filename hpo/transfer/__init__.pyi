from .recipe import TransferRecipe as TransferRecipe
from .transfer import transfer_bundle as transfer_bundle
